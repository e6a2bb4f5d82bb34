//! [`Numeric`]: a decimal in Postgres' text and binary forms, at full precision.

use bytes::{BufMut, BytesMut};
use pgwire::types::ToSqlText;
use pgwire::types::format::FormatOptions;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

type Encoded = Result<IsNull, Box<dyn std::error::Error + Send + Sync>>;

const SIGN_NEGATIVE: u16 = 0x4000;
/// The largest scale of PostgreSQL.
const SCALE_MAX: u16 = 16_383;

/// `unscaled * 10^-scale`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numeric {
    /// The digits.
    pub(super) unscaled: i128,
    /// Digits after the point.
    pub(super) scale: u32,
}

impl Numeric {
    fn text(self) -> String {
        let digits = self.unscaled.unsigned_abs().to_string();
        let sign = if self.unscaled < 0 { "-" } else { "" };
        let scale = self.scale as usize;
        if scale == 0 {
            return format!("{sign}{digits}");
        }
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        format!("{sign}{whole}.{fraction}")
    }

    /// Groups of four decimal digits, highest first, and the number of groups before the point.
    fn groups(self) -> (Vec<i16>, i16) {
        let scale = self.scale as usize;
        let digits = self.unscaled.unsigned_abs().to_string();
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        let whole = format!("{whole:0>width$}", width = whole.len().div_ceil(4) * 4);
        let fraction = format!("{fraction:0<width$}", width = fraction.len().div_ceil(4) * 4);
        let before = whole.len() / 4;
        let all = whole + &fraction;
        let group = |at: usize| {
            all[at * 4..at * 4 + 4].bytes().fold(0, |sum, byte| sum * 10 + i16::from(byte - b'0'))
        };
        let groups: Vec<i16> = (0..all.len() / 4).map(group).collect();
        (groups, i16::try_from(before).unwrap_or(i16::MAX))
    }
}

/// The text of a numeric in binary form: NaN and infinities have theirs. None if it is damaged.
pub fn numeric_text(bytes: &[u8]) -> Option<String> {
    let (head, groups) = bytes.split_at_checked(8)?;
    let word = |at: usize| u16::from_be_bytes([head[2 * at], head[2 * at + 1]]);
    let (count, weight, sign, scale) = (word(0), word(1) as i16, word(2), word(3));
    let minus = match sign {
        0 => "",
        SIGN_NEGATIVE => "-",
        0xc000 => return Some("NaN".to_string()),
        0xd000 => return Some("Infinity".to_string()),
        0xf000 => return Some("-Infinity".to_string()),
        _ => return None,
    };
    if groups.len() != 2 * usize::from(count) || scale > SCALE_MAX {
        return None;
    }
    let groups: Vec<u16> = groups.chunks(2).map(|it| u16::from_be_bytes([it[0], it[1]])).collect();
    if groups.iter().any(|group| *group > 9999) {
        return None;
    }
    let group = |power: i32| {
        let at = usize::try_from(i32::from(weight) - power).ok();
        at.and_then(|at| groups.get(at)).copied().unwrap_or(0)
    };
    let whole: String = (0..=i32::from(weight).max(0)).rev().map(group).map(four).collect();
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    if scale == 0 {
        return Some(format!("{minus}{whole}"));
    }
    let places = scale.div_ceil(4);
    let fraction: String = (1..=places).map(|place| four(group(-i32::from(place)))).collect();
    Some(format!("{minus}{whole}.{}", &fraction[..usize::from(scale)]))
}

fn four(group: u16) -> String {
    format!("{group:04}")
}

impl ToSqlText for Numeric {
    fn to_sql_text(&self, _ty: &Type, out: &mut BytesMut, _options: &FormatOptions) -> Encoded {
        out.put_slice(self.text().as_bytes());
        Ok(IsNull::No)
    }
}

impl ToSql for Numeric {
    fn to_sql(&self, _ty: &Type, out: &mut BytesMut) -> Encoded {
        let (groups, before) = self.groups();
        let lead = groups.iter().take_while(|group| **group == 0).count();
        let tail = groups.iter().rev().take_while(|group| **group == 0).count();
        let kept = if lead == groups.len() { &[] } else { &groups[lead..groups.len() - tail] };
        let skipped = i16::try_from(lead)?;
        let weight = if kept.is_empty() { 0 } else { before - 1 - skipped };
        out.put_u16(u16::try_from(kept.len())?);
        out.put_i16(weight);
        out.put_u16(if self.unscaled < 0 { SIGN_NEGATIVE } else { 0 });
        out.put_u16(u16::try_from(self.scale)?);
        for group in kept {
            out.put_i16(*group);
        }
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::NUMERIC
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(unscaled: i128, scale: u32) -> Vec<u8> {
        let mut out = BytesMut::new();
        Numeric { unscaled, scale }.to_sql(&Type::NUMERIC, &mut out).unwrap();
        out.to_vec()
    }

    #[test]
    fn text_keeps_the_scale() {
        let text = |unscaled, scale| Numeric { unscaled, scale }.text();
        assert_eq!(text(12_300, 3), "12.300");
        assert_eq!(text(-5, 2), "-0.05");
        assert_eq!(text(7, 0), "7");
        assert_eq!(text(i128::MAX, 2), "1701411834604692317316873037158841057.27");
    }

    #[test]
    fn binary_is_read_back() {
        for (unscaled, scale) in
            [(123_456, 2), (-5, 4), (0, 2), (10_000, 0), (7, 9), (-99_990_000, 3), (i128::MAX, 20)]
        {
            let text = Numeric { unscaled, scale }.text();
            assert_eq!(numeric_text(&binary(unscaled, scale)), Some(text));
        }
        assert_eq!(numeric_text(&[0, 0, 0, 0, 192, 0, 0, 0]).as_deref(), Some("NaN"));
        assert_eq!(numeric_text(&[0, 1, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(numeric_text(&[0, 1, 0, 0, 0, 0, 0, 0, 255, 0]), None);
        assert_eq!(numeric_text(&[]), None);
    }

    #[test]
    fn binary_is_groups_of_four_digits() {
        assert_eq!(binary(123_456, 2), [0, 2, 0, 0, 0, 0, 0, 2, 4, 210, 21, 224]);
        assert_eq!(binary(-5, 4), [0, 1, 255, 255, 64, 0, 0, 4, 0, 5]);
        assert_eq!(binary(0, 2), [0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(binary(10_000, 0), [0, 1, 0, 1, 0, 0, 0, 0, 0, 1]);
    }
}
