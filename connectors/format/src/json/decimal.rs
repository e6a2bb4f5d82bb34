//! Decimals: text, base64 and unscaled integers to the unscaled integer of a column.
//!
//! All arithmetic is on `i128`; nothing passes through a float. Digits beyond the column's scale
//! are rounded half away from zero, as PostgreSQL does.

use base64::Engine;

use super::base64_forms::BASE64_CANONICAL;
use super::fault::Beyond;

/// Digits of the largest decimal.
const DIGITS_MAX: u32 = 38;

/// Why a value is no decimal of 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It is no decimal at all.
    Malformed,
    /// It is one that no column can hold, or not a number.
    Beyond(Beyond),
}

impl Unfit {
    const fn past(is_negative: bool) -> Self {
        Self::Beyond(if is_negative { Beyond::Low } else { Beyond::High })
    }
}

type Result<T> = std::result::Result<T, Unfit>;

/// Reads decimal text such as `-12.50` or `1.5e3` at `scale`. PostgreSQL's `NaN` and `Infinity` are
/// beyond every column.
///
/// # Errors
/// If it is no decimal or too large.
pub(crate) fn from_text(text: &str, scale: i8) -> Result<i128> {
    match text {
        "NaN" => return Err(Unfit::Beyond(Beyond::Neither)),
        "Infinity" | "-Infinity" => return Err(Unfit::past(text.starts_with('-'))),
        _ => {}
    }
    let (negative, digits) = match text.as_bytes() {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let mut mantissa: i128 = 0;
    let mut exponent: i64 = 0;
    let (mut seen_digit, mut seen_point) = (false, false);
    let mut index = 0;
    while index < digits.len() {
        match digits[index] {
            digit @ b'0'..=b'9' => {
                seen_digit = true;
                let next = mantissa
                    .checked_mul(10)
                    .and_then(|shifted| shifted.checked_add(i128::from(digit - b'0')));
                match next {
                    Some(next) => {
                        mantissa = next;
                        exponent -= i64::from(seen_point);
                    }
                    // Digits past the 38th only move the point.
                    None => exponent += i64::from(!seen_point),
                }
            }
            b'.' if !seen_point => seen_point = true,
            b'e' | b'E' if seen_digit => {
                exponent +=
                    i64::from(parse_exponent(&digits[index + 1..]).ok_or(Unfit::Malformed)?);
                break;
            }
            _ => return Err(Unfit::Malformed),
        }
        index += 1;
    }
    if !seen_digit {
        return Err(Unfit::Malformed);
    }
    let mantissa = if negative { -mantissa } else { mantissa };
    shift(mantissa, exponent + i64::from(scale)).ok_or(Unfit::past(negative))
}

/// Reads base64 of a big-endian two's complement integer, scaled by `from`, at scale `to`.
///
/// The base64 is canonical, as Java writes it, so that few texts of another form pass for it.
///
/// # Errors
/// If it is no such base64, or the number is too large.
pub(crate) fn from_base64(text: &str, from: i32, to: i8) -> Result<i128> {
    let mut buffer = [0_u8; 64];
    let length = BASE64_CANONICAL.decode_slice(text, &mut buffer).map_err(|_| Unfit::Malformed)?;
    let bytes = &buffer[..length];
    let is_negative = *bytes.first().ok_or(Unfit::Malformed)? & 0x80 != 0;
    let unscaled = from_big_endian(bytes).ok_or(Unfit::past(is_negative))?;
    rescale(unscaled, from, to).ok_or(Unfit::past(is_negative))
}

/// Moves an unscaled integer from one scale to another; `None` if it gets too large.
fn rescale(unscaled: i128, from: i32, to: i8) -> Option<i128> {
    shift(unscaled, i64::from(to) - i64::from(from))
}

/// The bounds of the unscaled integers with at most `precision` digits.
pub(crate) fn bounds(precision: u8) -> [i128; 2] {
    let bound = 10_i128.pow(u32::from(precision).min(DIGITS_MAX)) - 1;
    [-bound, bound]
}

fn parse_exponent(text: &[u8]) -> Option<i32> {
    let text = std::str::from_utf8(text).ok()?;
    let value: i32 = text.parse().ok()?;
    // Far beyond any scale, and far from overflow in the sums above.
    Some(value.clamp(-100_000, 100_000))
}

/// `value * 10^places`, rounded half away from zero.
fn shift(value: i128, places: i64) -> Option<i128> {
    if value == 0 || places == 0 {
        return Some(value);
    }
    let distance = u32::try_from(places.unsigned_abs()).ok()?;
    if places > 0 {
        return 10_i128.checked_pow(distance)?.checked_mul(value);
    }
    if distance > DIGITS_MAX {
        return Some(0);
    }
    let divisor = 10_i128.pow(distance);
    let (quotient, remainder) = (value / divisor, value % divisor);
    let up = remainder.unsigned_abs() >= divisor.unsigned_abs().div_ceil(2);
    Some(if up { quotient + value.signum() } else { quotient })
}

fn from_big_endian(bytes: &[u8]) -> Option<i128> {
    let first = *bytes.first()?;
    let fill = if first & 0x80 == 0 { 0 } else { 0xff };
    let (extension, low) = bytes.split_at(bytes.len().saturating_sub(16));
    if extension.iter().any(|byte| *byte != fill) {
        return None;
    }
    let mut whole = [fill; 16];
    whole[16 - low.len()..].copy_from_slice(low);
    let value = i128::from_be_bytes(whole);
    ((value < 0) == (fill != 0)).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_text_exactly() {
        assert_eq!(from_text("-12345.67", 2), Ok(-1_234_567));
        assert_eq!(
            from_text("12345678901234567890.0123456789", 10),
            Ok(123456789012345678900123456789)
        );
        assert_eq!(from_text("0.1", 20), Ok(10_i128.pow(19)));
        assert_eq!(from_text("1.2345678901234567e+19", 0), Ok(12_345_678_901_234_567_000));
        assert_eq!(from_text("15e-1", 0), Ok(2));
        assert_eq!(from_text("1e-60", 2), Ok(0));
        assert_eq!(from_text("0e99999999", 2), Ok(0));
        for bad in ["", ".", "-", "1.2.3", "NaN", "1e", "e5", "0x1", "1 "] {
            assert!(from_text(bad, 2).is_err(), "{bad}");
        }
        assert_eq!(from_text("1e40", 0), Err(Unfit::Beyond(Beyond::High)));
        assert_eq!(from_text("-1e40", 0), Err(Unfit::Beyond(Beyond::Low)));
        assert_eq!(from_text("NaN", 0), Err(Unfit::Beyond(Beyond::Neither)));
    }

    #[test]
    fn rounds_half_away_from_zero() {
        assert_eq!(from_text("0.125", 2), Ok(13));
        assert_eq!(from_text("-0.125", 2), Ok(-13));
        assert_eq!(from_text("0.1249999999999999999999999999999999999999999", 2), Ok(12));
        assert_eq!(rescale(-15, 1, 0), Some(-2));
        assert_eq!(rescale(14, 1, 0), Some(1));
    }

    #[test]
    fn keeps_the_first_digits_of_long_fractions() {
        let text = "0.1000000000000000055511151231257827021181583404541015625";
        assert_eq!(from_text(text, 3), Ok(100));
        assert!(from_text("1234567890123456789012345678901234567890123", 0).is_err());
    }

    #[test]
    fn reads_recorded_base64() {
        assert_eq!(from_base64("7Sl5", 2, 2), Ok(-1_234_567));
        assert_eq!(from_base64("AY7pD/bDc+DuDATVFQ==", 10, 10), Ok(123456789012345678900123456789));
        assert_eq!(from_base64("DJ8snNBGdO3qQAAAAA==", 0, 0), Ok(10_i128.pow(30)));
        // Neither the padding that Java writes nor bits without meaning may be wrong.
        for bad in ["", "!!!!", "Opg", "12", "123", "Oph=", "12345"] {
            assert_eq!(from_base64(bad, 2, 2), Err(Unfit::Malformed), "{bad}");
        }
        let seventeen = "gAAAAAAAAAAAAAAAAAAAAAA=";
        assert_eq!(from_base64(seventeen, 0, 0), Err(Unfit::Beyond(Beyond::Low)));
    }

    #[test]
    fn refuses_more_than_sixteen_bytes() {
        assert_eq!(from_big_endian(&[1; 17]), None);
        assert_eq!(from_big_endian(&[0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(from_big_endian(&[0xff; 20]), Some(-1));
        assert_eq!(bounds(2), [-99, 99]);
    }
}
