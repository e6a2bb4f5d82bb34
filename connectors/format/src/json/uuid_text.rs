//! [`read_uuid`]: the forms in which PostgreSQL reads a UUID.

/// The bytes of a UUID: 32 hexadecimal digits in capitals or small letters, with hyphens behind any
/// group of four digits, in braces or not. `None` for any other text.
pub fn read_uuid(text: &str) -> Option<[u8; 16]> {
    let text = text.trim_ascii();
    let inner = text.strip_prefix('{').map_or(Some(text), |rest| rest.strip_suffix('}'))?;
    let mut bytes = [0; 16];
    let mut digits = 0;
    let mut after_hyphen = false;
    for letter in inner.chars() {
        if letter == '-' {
            if digits == 0 || digits % 4 != 0 || after_hyphen {
                return None;
            }
            after_hyphen = true;
            continue;
        }
        let value = u8::try_from(letter.to_digit(16)?).ok()?;
        let byte = bytes.get_mut(digits / 2)?;
        *byte = *byte << 4 | value;
        digits += 1;
        after_hyphen = false;
    }
    (digits == 32 && !after_hyphen).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_form_of_postgres_and_no_other() {
        let id = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        let bytes = read_uuid(id).unwrap();
        assert_eq!((bytes[0], bytes[15]), (0xa0, 0x11));
        for same in [
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
            "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
        ] {
            assert_eq!(read_uuid(same), Some(bytes), "{same}");
        }
        for bad in [
            "",
            "no-uuid",
            "{a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0eebc999c0b4ef8bb6d6bb9bd380a1",
            "a0eebc999c0b4ef8bb6d6bb9bd380a111",
            "a-0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0ee--bc999c0b4ef8bb6d6bb9bd380a11",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11-",
            "-a0eebc999c0b4ef8bb6d6bb9bd380a11",
        ] {
            assert_eq!(read_uuid(bad), None, "{bad}");
        }
    }
}
