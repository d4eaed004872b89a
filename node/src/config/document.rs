//! Reads the file and the environment into one document, and refuses what the sample does not know.

use std::collections::BTreeSet;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::{ConfigError, SAMPLE};

/// Variables that begin so are settings; a Kubernetes service never makes variables with two underscores.
const VARIABLE_PREFIX: &str = "KVARTER_NODE__";

/// Keys whose value in the sample is an example and no default.
const REQUIRED: [&str; 7] = ["id", "data_dir", "peer.address", "api.address", "tls.ca", "tls.certificate", "tls.key"];

/// Lists whose value in the sample is an example, too; they are empty where they are not given.
const EMPTY_UNLESS_GIVEN: [&str; 2] = ["initial", "join"];

/// The defaults, overridden by `text`, overridden by `environment`. `source` names the text in errors.
pub(super) fn merge(
    text: &str,
    source: &str,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Table, ConfigError> {
    let sample: Table = SAMPLE.parse().expect("the sample is TOML");
    let file = File { text, source };
    let document = DeTable::parse(text).map_err(|error| ConfigError::NotToml {
        place: file.place(error.span().map_or(0, |span| span.start)),
        reason: error.message().to_owned(),
    })?;
    file.check_table(document.get_ref(), &sample, "")?;
    let mut given: Table = toml::from_str(text)
        .map_err(|error| ConfigError::NotToml { place: source.to_owned(), reason: error.message().to_owned() })?;
    // Sorted, so that the same environment always gives the same error.
    for (name, value) in environment.collect::<BTreeSet<_>>() {
        if let Some(path) = name.strip_prefix(VARIABLE_PREFIX) {
            let path: Vec<_> = path.split("__").map(str::to_lowercase).collect();
            override_with(&mut given, &sample, &name, &path, &value)?;
        }
    }
    for key in REQUIRED {
        if at(&given, key).is_none() {
            return Err(ConfigError::Missing { key, variable: variable(key) });
        }
    }
    let mut merged = sample;
    if let Some(cluster) = merged.get_mut("cluster").and_then(Value::as_table_mut) {
        for key in EMPTY_UNLESS_GIVEN {
            cluster.insert(key.to_owned(), Value::Array(Vec::new()));
        }
    }
    overlay(&mut merged, given);
    Ok(merged)
}

/// The value at a dotted path.
pub(super) fn at<'a>(table: &'a Table, path: &str) -> Option<&'a Value> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    match rest {
        None => table.get(first),
        Some(rest) => at(table.get(first)?.as_table()?, rest),
    }
}

fn variable(key: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

fn overlay(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(Value::Table(base)), Value::Table(over)) => overlay(base, over),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}

/// Sets the value at `path`, read as what the sample has there: text as it stands, everything else as TOML.
fn override_with(
    table: &mut Table,
    sample: &Table,
    variable: &str,
    path: &[String],
    text: &str,
) -> Result<(), ConfigError> {
    let (first, rest) = path.split_first().expect("splitting gives at least one part");
    let Some(known) = sample.get(first) else {
        return Err(unknown(variable.to_owned(), first, first, sample));
    };
    match (known, rest) {
        (Value::Table(known), [_, ..]) => {
            let inner = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
            let inner = inner.as_table_mut().expect("the file was checked against the sample");
            override_with(inner, known, variable, rest, text)
        }
        (_, [_, ..]) => Err(unknown(variable.to_owned(), &path.join("."), first, sample)),
        (known, []) => {
            let wrong = |found: String| ConfigError::WrongType {
                place: variable.to_owned(),
                key: first.clone(),
                found,
                expected: expected(known.type_str()),
            };
            let value = match known {
                Value::String(_) => Value::String(text.to_owned()),
                _ => parse_value(text).ok_or_else(|| wrong(format!("\"{text}\"")))?,
            };
            let value = match (known, value) {
                (Value::Float(_), Value::Integer(whole)) => Value::Float(whole as f64),
                (_, value) => value,
            };
            if !value.same_type(known) {
                return Err(wrong(expected(value.type_str()).to_owned()));
            }
            table.insert(first.clone(), value);
            Ok(())
        }
    }
}

fn parse_value(text: &str) -> Option<Value> {
    let mut table: Table = format!("value = {text}").parse().ok()?;
    table.remove("value")
}

/// The text of a file, to tell where in it something stands.
struct File<'a> {
    text: &'a str,
    source: &'a str,
}

impl File<'_> {
    fn place(&self, offset: usize) -> String {
        let before = self.text.get(..offset).unwrap_or(self.text);
        format!("{}:{}", self.source, before.matches('\n').count() + 1)
    }

    fn check_table(&self, table: &DeTable<'_>, sample: &Table, path: &str) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key = if path.is_empty() { name.get_ref().to_string() } else { format!("{path}.{}", name.get_ref()) };
            let Some(known) = sample.get(name.get_ref().as_ref()) else {
                return Err(unknown(self.place(name.span().start), &key, name.get_ref(), sample));
            };
            self.check_value(value, known, &key)?;
        }
        Ok(())
    }

    fn check_value(&self, value: &Spanned<DeValue<'_>>, known: &Value, key: &str) -> Result<(), ConfigError> {
        match (value.get_ref(), known) {
            (DeValue::Table(table), Value::Table(known)) => self.check_table(table, known, key),
            (DeValue::Array(array), Value::Array(known)) => {
                let element = known.first().expect("the sample shows an element of each array");
                array.iter().try_for_each(|value| self.check_value(value, element, key))
            }
            (DeValue::Integer(_), Value::Float(_)) => Ok(()),
            (value, known) if value.type_str() == known.type_str() => Ok(()),
            (found, known) => Err(ConfigError::WrongType {
                place: self.place(value.span().start),
                key: key.to_owned(),
                found: expected(found.type_str()).to_owned(),
                expected: expected(known.type_str()),
            }),
        }
    }
}

fn unknown(place: String, key: &str, name: &str, siblings: &Table) -> ConfigError {
    let nearest = siblings.keys().map(|known| (strsim::damerau_levenshtein(name, known), known)).min();
    let hint = match nearest {
        Some((distance, known)) if distance <= 1 + name.len() / 3 => format!(", did you mean `{known}`?"),
        _ => format!(
            ", known here: {}",
            siblings.keys().map(|known| format!("`{known}`")).collect::<Vec<_>>().join(", ")
        ),
    };
    ConfigError::UnknownKey { place, key: key.to_owned(), hint }
}

fn expected(type_name: &str) -> &'static str {
    match type_name {
        "string" => "a text in quotes",
        "integer" => "a whole number",
        "float" => "a number",
        "boolean" => "true or false",
        "datetime" => "a time",
        "array" => "a list",
        _ => "a table",
    }
}
