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
