//! Texts as numbers.

use std::str::FromStr;

use arrow::datatypes::DataType;

use super::invalid::invalid_text;
use crate::error::{Error, ErrorKind, Result};
use crate::types::pg_name;

/// An integer, with blanks around it.
pub(super) fn integer<T: TryFrom<i128>>(text: &str, to: &DataType) -> Result<T> {
    let digits = text.trim_ascii();
    let unsigned = digits.strip_prefix(['-', '+']).unwrap_or(digits);
    if unsigned.is_empty() || !unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid_text(text, &pg_name(to)));
    }
    let value = digits.parse::<i128>().ok().and_then(|value| T::try_from(value).ok());
    value.ok_or_else(|| {
        let message = format!("value \"{text}\" is out of range for type {}", pg_name(to));
        Error::new(ErrorKind::OutOfRange, message)
    })
}

/// A float; what is too large or too small for the type is an error.
pub(super) fn float<T: FromStr + Copy>(
    text: &str,
    to: &DataType,
    is_infinite: impl Fn(T) -> bool,
    is_zero: impl Fn(&T) -> bool,
) -> Result<T> {
    let word = text.trim_ascii();
    let value: T = word.parse().map_err(|_| invalid_text(text, &pg_name(to)))?;
    let mantissa = word.split(['e', 'E']).next().unwrap_or_default();
    let has_digits = mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    if has_digits && (is_infinite(value) || is_zero(&value)) {
        let message = format!("\"{word}\" is out of range for type {}", pg_name(to));
        return Err(Error::new(ErrorKind::OutOfRange, message));
    }
    Ok(value)
}

/// A decimal of `scale` digits behind the point, a half rounded away from zero, of all digits and
/// with an exponent or not.
pub(super) fn decimal(text: &str, precision: u8, scale: i8) -> Result<i128> {
    let word = text.trim_ascii();
    let invalid = || invalid_text(text, "numeric");
    let (is_negative, unsigned) = match word.as_bytes().first() {
        Some(b'-') => (true, &word[1..]),
        Some(b'+') => (false, &word[1..]),
        _ => (false, word),
    };
    if ["nan", "infinity", "inf"].iter().any(|it| unsigned.eq_ignore_ascii_case(it)) {
        let message = format!("numeric value {word} is not supported");
        return Err(Error::unsupported(message).with_hint("use double precision for it"));
    }
    let (mantissa, power) = match unsigned.split_once(['e', 'E']) {
        None => (unsigned, 0),
        Some((mantissa, power)) => (mantissa, power.parse::<i32>().map_err(|_| invalid())?),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits = whole.bytes().chain(fraction.bytes());
    if (whole.is_empty() && fraction.is_empty()) || !digits.all(|it| it.is_ascii_digit()) {
        return Err(invalid());
    }
    let overflow = || {
        let detail = format!(
            "A field with precision {precision}, scale {scale} must round to an absolute value \
             less than 10^{}.",
            i16::from(precision) - i16::from(scale)
        );
        Error::new(ErrorKind::OutOfRange, "numeric field overflow").with_detail(detail)
    };
    // Digits that stay before the point of the value times 10^scale.
    let kept = whole.len() as i64 + i64::from(power) + i64::from(scale);
    let mut value: i128 = 0;
    let mut rounds_up = false;
    for (at, digit) in whole.bytes().chain(fraction.bytes()).enumerate() {
        let digit = i128::from(digit - b'0');
        match (at as i64).cmp(&kept) {
            std::cmp::Ordering::Less => {
                let next = value.checked_mul(10).and_then(|it| it.checked_add(digit));
                value = next.ok_or_else(overflow)?;
            }
            std::cmp::Ordering::Equal => rounds_up = digit >= 5,
            std::cmp::Ordering::Greater => break,
        }
    }
    for _ in (whole.len() + fraction.len()) as i64..kept {
        if value == 0 {
            break;
        }
        value = value.checked_mul(10).ok_or_else(overflow)?;
    }
    value += i128::from(rounds_up);
    if value >= 10_i128.pow(u32::from(precision)) {
        return Err(overflow());
    }
    Ok(if is_negative { -value } else { value })
}

/// A decimal of as many places as a text has.
pub(super) fn written_decimal(text: &str) -> DataType {
    let (digits, power) = text.trim_ascii().split_once(['e', 'E']).unwrap_or((text, "0"));
    let fraction = digits.trim_ascii().split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let power = power.parse::<i64>().unwrap_or(0);
    let scale = (fraction as i64).saturating_sub(power).clamp(0, 38);
    DataType::Decimal128(38, scale as i8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_with_exponents_and_rounded() {
        let read = |text: &str| decimal(text, 10, 2);
        for (text, expected) in [
            ("1", 100),
            (" -1.005 ", -101),
            ("1.004", 100),
            ("+.5", 50),
            ("5.", 500),
            ("1E+3", 100_000),
            ("2.5e-1", 25),
            ("5e-3", 1),
            ("4e-3", 0),
            ("1e-30", 0),
            ("0e999", 0),
            ("99999999.99", 9_999_999_999),
            ("00000000000000000000000000000000000000000000001", 100),
        ] {
            assert_eq!(read(text).ok(), Some(expected), "{text}");
        }
        for text in ["", ".", "1e", "e3", "1 2", "--1", "0x1", "1.2.3", "é"] {
            assert_eq!(read(text).unwrap_err().kind.sqlstate(), "22P02", "{text}");
        }
        for text in ["100000000", "99999999.995", "1e30", "1e999999"] {
            assert_eq!(read(text).unwrap_err().kind.sqlstate(), "22003", "{text}");
        }
        assert_eq!(read("NaN").unwrap_err().kind.sqlstate(), "0A000");
        assert_eq!(decimal(&"9".repeat(38), 38, 0).ok(), Some(10_i128.pow(38) - 1));
    }

    #[test]
    fn integers_have_digits_only() {
        let read = |text: &str| integer::<i16>(text, &DataType::Int16);
        assert_eq!(read(" -32768\n").ok(), Some(i16::MIN));
        assert_eq!(read("+7").ok(), Some(7));
        assert_eq!(read("32768").unwrap_err().kind.sqlstate(), "22003");
        assert_eq!(read(&"9".repeat(60)).unwrap_err().kind.sqlstate(), "22003");
        for text in ["", "-", "1.0", "1e3", "0x1", "1_0", "- 1"] {
            assert_eq!(read(text).unwrap_err().kind.sqlstate(), "22P02", "{text}");
        }
    }

    #[test]
    fn floats_out_of_range_are_told() {
        let read = |text: &str| {
            float::<f64>(text, &DataType::Float64, f64::is_infinite, |value| *value == 0.0)
        };
        assert_eq!(read(" 1.5e3 ").ok(), Some(1500.0));
        assert_eq!(read("-inf").ok(), Some(f64::NEG_INFINITY));
        assert_eq!(read("0e-999").ok(), Some(0.0));
        assert_eq!(read("1e400").unwrap_err().kind.sqlstate(), "22003");
        assert_eq!(read("1e-400").unwrap_err().kind.sqlstate(), "22003");
        assert_eq!(read("x").unwrap_err().kind.sqlstate(), "22P02");
    }
}
