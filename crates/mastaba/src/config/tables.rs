//! TOML: nested tables, flattened to dotted keys.

use toml::{Table, Value};

use super::form::{Form, Input};

impl Input {
    pub(super) fn from_toml(text: &str) -> Self {
        let mut input = Self::new(Form::Toml);
        match text.parse::<Table>() {
            Ok(table) => input.flatten(&mut Vec::new(), &table),
            Err(error) => {
                // nothing of it is known
                input.doubts.regions = true;
                input.doubts.doubt("data_dir");
                input.problems.push(not_toml(text, &error));
            }
        }
        input
    }

    fn flatten<'a>(&mut self, path: &mut Vec<&'a str>, table: &'a Table) {
        if table.is_empty() && !path.is_empty() {
            self.push(&written(path), path.join("."), None);
        }
        for (name, value) in table {
            path.push(name);
            // Dots part names; only what follows `arguments` is a name as a whole, and the backend's business.
            if name.contains('.') && path.get(2) != Some(&"arguments") {
                self.doubts.regions = true;
                self.problems.push(format!("{}: a name has no dot in it", written(path)));
            } else {
                self.flatten_value(path, value);
            }
            path.pop();
        }
    }

    fn flatten_value<'a>(&mut self, path: &mut Vec<&'a str>, value: &'a Value) {
        let text = match value {
            Value::Table(table) => return self.flatten(path, table),
            Value::String(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Boolean(is) => is.to_string(),
            Value::Array(_) | Value::Datetime(_) => {
                let sort = if value.is_array() { "a list" } else { "a date or time" };
                let wanted = "a string, a number or a boolean is needed";
                self.doubts.doubt(path.join("."));
                self.problems.push(format!("{}: this is {sort}, and {wanted}", written(path)));
                return;
            }
        };
        self.push(&written(path), path.join("."), Some(text));
    }
}

/// Where and why, without the line itself as the error's own text has it: there may be a password in it.
fn not_toml(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    format!("line {line}: {}", error.message().trim())
}

/// The path as TOML writes it, with quotes where it needs them.
fn written(path: &[&str]) -> String {
    let is_bare = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    let quoted = |name: &&str| if is_bare(name) { (*name).to_owned() } else { format!("{name:?}") };
    path.iter().map(quoted).collect::<Vec<_>>().join(".")
}
