//! [`parse_jaas`]: the login that Java clients keep in one property.
//!
//! ```text
//! org.apache.kafka.common.security.scram.ScramLoginModule required username="u" password="p";
//! ```

use std::collections::BTreeMap;

use frazil_connector_api::{ConnectorError, Result};

/// Where an option of a login module belongs among the properties of librdkafka.
const PASSWORD: [(&str, &str); 2] = [("username", "sasl.username"), ("password", "sasl.password")];
const TOKEN: [(&str, &str); 3] = [
    ("clientId", "sasl.oauthbearer.client.id"),
    ("clientSecret", "sasl.oauthbearer.client.secret"),
    ("scope", "sasl.oauthbearer.scope"),
];
/// Options of OAuthBearerLoginModule with this prefix are extensions.
const EXTENSION: &str = "extension_";

/// The properties that a `sasl.jaas.config` stands for.
///
/// # Errors
/// `Config` if the text is not understood, or its module is not known. No error shows a part of the
/// text other than the name of the module.
pub(crate) fn parse_jaas(text: &str) -> Result<BTreeMap<String, String>> {
    let mut tokens = tokens(text)?.into_iter();
    let module = tokens.next().and_then(Token::word).ok_or_else(unreadable)?;
    let short = module.rsplit('.').next().unwrap_or(&module);
    let known: &[(&str, &str)] = match short {
        "PlainLoginModule" | "ScramLoginModule" => &PASSWORD,
        "OAuthBearerLoginModule" => &TOKEN,
        other => {
            let message = format!("login module \"{other}\" of sasl.jaas.config is not supported");
            return Err(ConnectorError::config(message).with_hint(
                "PlainLoginModule, ScramLoginModule and OAuthBearerLoginModule are supported",
            ));
        }
    };
    // `required` or another control flag, which means nothing for a single module.
    tokens.next().and_then(Token::word).ok_or_else(unreadable)?;
    let (mut properties, mut extensions) = (BTreeMap::new(), Vec::new());
    loop {
        let name = match tokens.next() {
            Some(Token::End) => break,
            other => other.and_then(Token::word).ok_or_else(unreadable)?,
        };
        if !matches!(tokens.next(), Some(Token::Equals)) {
            return Err(unreadable());
        }
        let value = tokens.next().and_then(Token::word).ok_or_else(unreadable)?;
        if let Some((_, property)) = known.iter().find(|(option, _)| *option == name) {
            properties.insert((*property).to_string(), value);
        } else if let Some(extension) = name.strip_prefix(EXTENSION) {
            extensions.push(format!("{extension}={value}"));
        }
    }
    if !extensions.is_empty() {
        properties.insert("sasl.oauthbearer.extensions".to_string(), extensions.join(","));
    }
    match tokens.next() {
        None => Ok(properties),
        Some(_) => Err(unreadable()),
    }
}

fn unreadable() -> ConnectorError {
    ConnectorError::config("option \"properties.sasl.jaas.config\" is not understood").with_hint(
        "it is: org.apache.kafka.common.security.scram.ScramLoginModule required \
         username=\"…\" password=\"…\";",
    )
}

enum Token {
    Word(String),
    Equals,
    End,
}

impl Token {
    fn word(self) -> Option<String> {
        match self {
            Self::Word(word) => Some(word),
            Self::Equals | Self::End => None,
        }
    }
}

/// Words, quoted or bare, and the two signs between them.
fn tokens(text: &str) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(first) = chars.next() {
        match first {
            '=' => tokens.push(Token::Equals),
            ';' => tokens.push(Token::End),
            '"' | '\'' => {
                let mut word = String::new();
                loop {
                    match chars.next().ok_or_else(unreadable)? {
                        end if end == first => break,
                        '\\' => word.push(chars.next().ok_or_else(unreadable)?),
                        other => word.push(other),
                    }
                }
                tokens.push(Token::Word(word));
            }
            space if space.is_whitespace() => {}
            _ => {
                let mut word = String::from(first);
                let is_bare = |next: &char| !next.is_whitespace() && !"=;\"'".contains(*next);
                while let Some(next) = chars.next_if(is_bare) {
                    word.push(next);
                }
                tokens.push(Token::Word(word));
            }
        }
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, String)> {
        parse_jaas(text).unwrap().into_iter().collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect()
    }

    #[test]
    fn logins_of_java_clients_become_properties() {
        let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required\n  \
                     username=\"al;ice\"  password=\"pa\\\"ss=\" ;";
        let login = pairs(&[("sasl.password", "pa\"ss="), ("sasl.username", "al;ice")]);
        assert_eq!(parsed(scram), login);
        let shaded = "org.apache.flink.kafka.shaded.org.apache.kafka.common.security.plain.\
                      PlainLoginModule required username='u' password=p;";
        assert_eq!(parsed(shaded), pairs(&[("sasl.password", "p"), ("sasl.username", "u")]));
        let token = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
                     clientId='me' clientSecret='s' scope='kafka' extension_logicalCluster='lkc-1' \
                     extension_identityPoolId='pool-1';";
        let expected = pairs(&[
            ("sasl.oauthbearer.client.id", "me"),
            ("sasl.oauthbearer.client.secret", "s"),
            ("sasl.oauthbearer.extensions", "logicalCluster=lkc-1,identityPoolId=pool-1"),
            ("sasl.oauthbearer.scope", "kafka"),
        ]);
        assert_eq!(parsed(token), expected);
    }

    #[test]
    fn what_is_not_understood_is_refused_without_showing_it() {
        let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
        for rest in [
            "",
            " required",
            " required password=hunter2",
            " required password;",
            " required password=\"hunter2;",
            " required password=hunter2; x",
        ] {
            let error = parse_jaas(&format!("{module}{rest}")).unwrap_err();
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        let error = parse_jaas("software.amazon.msk.auth.iam.IAMLoginModule required;");
        assert!(error.unwrap_err().message.contains("\"IAMLoginModule\""));
    }
}
