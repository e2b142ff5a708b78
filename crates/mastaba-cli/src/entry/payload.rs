//! The payload of a value: as JSON where it names its fields, else in hexadecimal.

use std::fmt::Write as _;

use mastaba::entry::{EntryRef, Format};
use mastaba::inspect;
use serde::Serialize;
use serde_json::Value;

use crate::output::Table;

/// So many bytes are shown in hexadecimal.
const SHOWN: usize = 256;

/// What a value was encoded to.
#[derive(Debug, Serialize)]
pub(super) struct Payload {
    /// Before it was compressed.
    bytes: Option<usize>,
    /// Where it says what it is.
    json: Option<Value>,
    /// The first bytes, where it does not.
    hex: Option<String>,
    /// Why there is no JSON.
    why: Option<String>,
}

impl Payload {
    pub(super) fn of(entry: &EntryRef<'_>) -> Self {
        let raw = match inspect::payload(entry) {
            Ok(raw) => raw,
            Err(why) => return Self { bytes: None, json: None, hex: None, why: Some(why.to_string()) },
        };
        let (json, why) = match entry.header().format {
            Format::MessagePack => match named(&raw) {
                Ok(value) => (Some(value), None),
                Err(why) => (None, Some(format!("MessagePack, which is no JSON: {why}"))),
            },
            Format::Postcard => {
                let why = "it is encoded without the names and the sorts of its fields (postcard): only the program knows them";
                (None, Some(why.to_owned()))
            }
        };
        let hex = json.is_none().then(|| hex(&raw));
        Self { bytes: Some(raw.len()), json, hex, why }
    }

    pub(super) fn tell(&self, table: &mut Table) {
        if let Some(bytes) = self.bytes {
            table.row("payload", &format!("{bytes} bytes"));
        }
        if let Some(json) = &self.json {
            table.row("as JSON", &json.to_string());
        }
        if let Some(why) = &self.why {
            table.row("not as JSON", why);
        }
        if let Some(hex) = &self.hex {
            table.row("in hexadecimal", hex);
        }
    }
}

/// MessagePack as JSON: bytes become lists of numbers, and keys of maps texts.
fn named(raw: &[u8]) -> Result<Value, String> {
    let mut text = Vec::new();
    let mut from = rmp_serde::Deserializer::new(raw).with_human_readable();
    serde_transcode::transcode(&mut from, &mut serde_json::Serializer::new(&mut text))
        .map_err(|why| why.to_string())?;
    serde_json::from_slice(&text).map_err(|why| why.to_string())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for pair in bytes[..bytes.len().min(SHOWN)].chunks(2) {
        pair.iter().for_each(|byte| {
            let _ = write!(text, "{byte:02x}");
        });
        text.push(' ');
    }
    if bytes.len() > SHOWN {
        text.push_str("..");
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_messagepack_has_becomes_json() {
        #[derive(Serialize)]
        struct Row {
            id: u64,
            name: Option<&'static str>,
            by_year: std::collections::BTreeMap<u16, f64>,
        }
        let row = Row { id: 7, name: None, by_year: [(1999, 0.5)].into() };
        let raw = rmp_serde::to_vec_named(&row).unwrap();
        let expected = serde_json::json!({ "id": 7, "name": null, "by_year": { "1999": 0.5 } });
        assert_eq!(named(&raw).unwrap(), expected);
        assert!(named(&raw[..raw.len() - 1]).is_err());
    }

    #[test]
    fn bytes_are_shown_in_pairs_and_long_ones_cut() {
        assert_eq!(hex(&[0, 255, 16]), "00ff 10");
        assert_eq!(hex(&[]), "");
        assert!(hex(&[7; SHOWN + 1]).ends_with("0707 .."));
    }
}
