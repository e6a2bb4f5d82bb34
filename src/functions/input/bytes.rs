//! Texts as bytes.

/// Appends the bytes that a text stands for: `\x00ff` in hexadecimal, else the characters, with
/// `\\` and `\ooo` in octal.
pub(super) fn read_bytes(text: &str, out: &mut Vec<u8>) -> Option<()> {
    match text.strip_prefix("\\x") {
        Some(digits) => read_hexadecimal(digits.as_bytes(), out),
        None => read_escaped(text.as_bytes(), out),
    }
}

fn read_hexadecimal(digits: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let digit = |digit: &u8| char::from(*digit).to_digit(16);
    for pair in digits.chunks(2) {
        let [high, low] = pair else { return None };
        out.push(u8::try_from(digit(high)? * 16 + digit(low)?).ok()?);
    }
    Some(())
}

fn read_escaped(mut text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    loop {
        match text {
            [] => return Some(()),
            [b'\\', b'\\', rest @ ..] => {
                out.push(b'\\');
                text = rest;
            }
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..] => {
                out.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                text = rest;
            }
            [b'\\', ..] => return None,
            [byte, rest @ ..] => {
                out.push(*byte);
                text = rest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_as_in_postgres() {
        let read = |text: &str| {
            let mut out = Vec::new();
            read_bytes(text, &mut out).map(|()| out)
        };
        assert_eq!(read("\\x00fF").unwrap(), [0, 255]);
        assert!(read("\\x").unwrap().is_empty());
        assert_eq!(read("a\\\\b\\001").unwrap(), [b'a', b'\\', b'b', 1]);
        assert!(read("\\x0").is_none() && read("\\xzz").is_none() && read("a\\b").is_none());
    }
}
