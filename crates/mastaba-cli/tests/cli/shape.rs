//! The shape of JSON: programs read it, so what a field is called and of what sort it is stays.

use serde_json::Value;

/// Where each leaf is, and of what sort; of a list its first.
pub(crate) fn shape(value: &Value) -> Vec<String> {
    fn visit(value: &Value, at: &str, found: &mut Vec<String>) {
        let sort = match value {
            Value::Object(fields) => {
                return fields.iter().for_each(|(name, value)| visit(value, &format!("{at}/{name}"), found));
            }
            Value::Array(values) => {
                return values.iter().take(1).for_each(|value| visit(value, &format!("{at}/0"), found));
            }
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
        };
        found.push(format!("{at} {sort}"));
    }
    let mut found = Vec::new();
    visit(value, "", &mut found);
    found.sort();
    found
}

/// What a doctor advises: how much each matters, and of what it is.
pub(crate) fn advised(found: &Value) -> Vec<(&str, &str)> {
    let all = found["advice"].as_array().expect("advice");
    let all = all.iter().map(|it| (it["level"].as_str().unwrap_or(""), it["about"].as_str().unwrap_or("")));
    // a busy machine is none of the server's
    all.filter(|it| *it != ("warning", "round trip")).collect()
}
