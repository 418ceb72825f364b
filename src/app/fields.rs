//! The fields of a JSON object, read one by one with the rules and sentences of DRF's serializer fields.
//!
//! The object is split once into undecoded values, so that a field costs only what its own type costs (a vector of
//! floats is parsed straight into floats), and every field's mistakes are reported together.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;

use jiff::Timestamp;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::{ApiError, FieldErrors};
use super::json_error;

/// A request body that knows how to read itself.
pub trait Form: Sized {
    /// Reads the fields. Returns `None` only after `fields` has noted an error.
    fn read(fields: &mut Fields<'_>) -> Option<Self>;
}

/// The fields of one request and what was found wrong with them.
pub struct Fields<'a> {
    object: Object<'a>,
    errors: FieldErrors,
}

/// What a text field accepts besides being text.
#[derive(Clone, Copy, Debug)]
pub struct TextRule {
    /// Unicode scalars at most.
    pub chars_max: usize,
    /// Whether the empty text is fine.
    pub blank: bool,
    /// Whether white space at both ends is dropped first.
    pub trim: bool,
}

impl TextRule {
    /// Text that says something, trimmed, of at most `chars_max` characters.
    pub const fn line(chars_max: usize) -> Self {
        Self { chars_max, blank: false, trim: true }
    }

    /// The same, but may be empty.
    pub const fn blank(chars_max: usize) -> Self {
        Self { chars_max, blank: true, trim: true }
    }

    /// Text taken exactly as it was sent, such as a password.
    pub const fn exact(chars_max: usize) -> Self {
        Self { chars_max, blank: false, trim: false }
    }
}

impl<'a> Fields<'a> {
    /// Splits `json` into fields and reads a form from them.
    ///
    /// # Errors
    /// 400 with a parse error, or with the errors of all fields.
    pub fn parse<T: Form>(json: &'a [u8]) -> Result<T, ApiError> {
        let parse = |error: serde_json::Error| ApiError::parse(json_error::sentence(json, &error));
        let whole: &RawValue = serde_json::from_slice(json).map_err(parse)?;
        let mut errors = FieldErrors::default();
        let kind = python_type(whole);
        if kind != "dict" {
            let message = match kind {
                "NoneType" => "No data provided".to_owned(),
                kind => format!("Invalid data. Expected a dictionary, but got {kind}."),
            };
            errors.push(FieldErrors::NON_FIELD, message);
            return Err(errors.into());
        }
        let object = serde_json::from_str(whole.get()).map_err(parse)?;
        let mut fields = Fields { object, errors };
        match T::read(&mut fields) {
            Some(form) if fields.errors.is_empty() => Ok(form),
            _ => Err(fields.errors.into()),
        }
    }

    /// Notes that `field` is wrong.
    pub fn error(&mut self, field: &'static str, message: impl Into<Cow<'static, str>>) {
        self.errors.push(field, message);
    }

    /// Returns whether the request has the field, be it null.
    pub fn has(&self, field: &str) -> bool {
        self.get(field).is_some()
    }

    /// Returns whether the field is there and null.
    pub fn is_null(&self, field: &str) -> bool {
        self.get(field).is_some_and(|raw| raw.get() == "null")
    }

    /// Reads a text that must be there.
    pub fn text(&mut self, field: &'static str, rule: TextRule) -> Option<String> {
        self.required(field)?;
        self.optional_text(field, rule)
    }

    /// Reads a text that may be absent.
    pub fn optional_text(&mut self, field: &'static str, rule: TextRule) -> Option<String> {
        let raw = self.present(field)?;
        let text = match python_type(raw) {
            "str" => serde_json::from_str::<String>(raw.get()).ok(),
            // As DRF's CharField: a number is taken as its digits.
            "int" | "float" => Some(raw.get().to_owned()),
            _ => None,
        };
        let Some(mut text) = text else {
            self.error(field, "Not a valid string.");
            return None;
        };
        if rule.trim && text.trim().len() != text.len() {
            text = text.trim().to_owned();
        }
        if text.is_empty() && !rule.blank {
            self.error(field, "This field may not be blank.");
            return None;
        }
        if text.contains('\0') {
            self.error(field, "Null characters are not allowed.");
            return None;
        }
        if text.len() > rule.chars_max && text.chars().count() > rule.chars_max {
            let message = format!("Ensure this field has no more than {} characters.", rule.chars_max);
            self.error(field, message);
            return None;
        }
        Some(text)
    }

    /// Reads a whole number that may be absent; text of digits counts, as in DRF.
    pub fn optional_integer(&mut self, field: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        let raw = self.present(field)?;
        let digits = raw.get().trim_matches('"');
        let digits = digits.strip_suffix(".0").unwrap_or(digits);
        let Ok(number) = digits.parse::<i64>() else {
            self.error(field, "A valid integer is required.");
            return None;
        };
        if number < *range.start() {
            let message = format!("Ensure this value is greater than or equal to {}.", range.start());
            self.error(field, message);
            return None;
        }
        if number > *range.end() {
            self.error(field, format!("Ensure this value is less than or equal to {}.", range.end()));
            return None;
        }
        Some(number)
    }

    /// Reads a boolean that may be absent.
    pub fn optional_boolean(&mut self, field: &'static str) -> Option<bool> {
        match self.present(field)?.get() {
            "true" | "\"true\"" | "1" => Some(true),
            "false" | "\"false\"" | "0" => Some(false),
            _ => {
                self.error(field, "Must be a valid boolean.");
                None
            }
        }
    }

    /// Reads a moment that may be absent; without an offset it is in UTC.
    pub fn optional_time(&mut self, field: &'static str) -> Option<Timestamp> {
        let raw = self.present(field)?;
        let text = serde_json::from_str::<Cow<'_, str>>(raw.get()).unwrap_or_default();
        let time = text.parse().ok().or_else(|| {
            let local: jiff::civil::DateTime = text.parse().ok()?;
            Some(local.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
        });
        if time.is_none() {
            let formats = "YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]";
            self.error(
                field,
                format!("Datetime has wrong format. Use one of these formats instead: {formats}."),
            );
        }
        time
    }

    /// Reads one of `choices`, which must be there.
    pub fn choice(&mut self, field: &'static str, choices: &[&'static str]) -> Option<&'static str> {
        self.required(field)?;
        let raw = self.present(field)?;
        let text = serde_json::from_str::<Cow<'_, str>>(raw.get());
        let found = text.as_ref().ok().and_then(|text| choices.iter().find(|choice| *choice == text));
        if found.is_none() {
            let shown = text.unwrap_or(Cow::Borrowed(raw.get()));
            self.error(field, format!("\"{shown}\" is not a valid choice."));
        }
        found.copied()
    }

    /// Reads an id that may be absent.
    pub fn optional_id<T: DeserializeOwned>(&mut self, field: &'static str) -> Option<T> {
        let raw = self.present(field)?;
        let id = serde_json::from_str(raw.get()).ok();
        if id.is_none() {
            self.error(field, "Must be a valid UUID.");
        }
        id
    }

    /// Reads a list of at most `items_max` ids that may be absent.
    pub fn optional_ids<T: DeserializeOwned>(
        &mut self,
        field: &'static str,
        items_max: usize,
    ) -> Option<Vec<T>> {
        let raw = self.present(field)?;
        let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(raw.get()) else {
            let kind = python_type(raw);
            self.error(field, format!("Expected a list of items but got type \"{kind}\"."));
            return None;
        };
        if items.len() > items_max {
            self.error(field, format!("Ensure this field has no more than {items_max} elements."));
            return None;
        }
        let ids: Vec<Option<T>> = items.iter().map(|item| serde_json::from_str(item.get()).ok()).collect();
        let wrong = ids.iter().zip(&items).enumerate().filter(|(_, (id, _))| id.is_none());
        let wrong: Vec<_> = wrong
            .map(|(index, (_, item))| match item.get() {
                "null" => (index, Cow::Borrowed("This field may not be null.")),
                _ => (index, Cow::Borrowed("Must be a valid UUID.")),
            })
            .collect();
        if !wrong.is_empty() {
            self.errors.push_items(field, wrong);
        }
        ids.into_iter().collect()
    }

    /// Reads a list of at most `items_max` numbers that may be absent; what only an `f64` could hold is infinite.
    pub fn optional_numbers(&mut self, field: &'static str, items_max: usize) -> Option<Vec<f32>> {
        let raw = self.present(field)?;
        match serde_json::from_str::<Vec<f32>>(raw.get()) {
            Ok(numbers) if numbers.len() <= items_max => return Some(numbers),
            Ok(_) => {
                self.error(field, format!("Ensure this field has no more than {items_max} elements."));
            }
            Err(_) => match serde_json::from_str::<Vec<&RawValue>>(raw.get()) {
                Ok(items) => {
                    // A number that even an `f64` cannot hold is none.
                    let is_number = |raw: &RawValue| serde_json::from_str::<f32>(raw.get()).is_ok();
                    let wrong = items.iter().enumerate().filter(|(_, item)| !is_number(item));
                    let message = Cow::Borrowed("A valid number is required.");
                    let wrong = wrong.map(|(index, _)| (index, message.clone())).collect();
                    self.errors.push_items(field, wrong);
                }
                Err(_) => {
                    let kind = python_type(raw);
                    self.error(field, format!("Expected a list of items but got type \"{kind}\"."));
                }
            },
        }
        None
    }

    /// Returns the undecoded value of a field that is there and not null; notes an error for null.
    pub fn present(&mut self, field: &'static str) -> Option<&'a RawValue> {
        let raw = self.get(field)?;
        if raw.get() == "null" {
            self.error(field, "This field may not be null.");
            return None;
        }
        Some(raw)
    }

    /// Notes an error where the field is absent.
    pub fn required(&mut self, field: &'static str) -> Option<()> {
        if self.has(field) {
            return Some(());
        }
        self.error(field, "This field is required.");
        None
    }

    fn get(&self, field: &str) -> Option<&'a RawValue> {
        // The last of several equal keys counts, as in Python.
        self.object.0.iter().rev().find(|(name, _)| name == field).map(|(_, raw)| *raw)
    }
}

/// The keys and undecoded values of an object, in order.
struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;

        impl<'de> Visitor<'de> for Pairs {
            type Value = Object<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Object(pairs))
            }
        }

        deserializer.deserialize_map(Pairs)
    }
}

/// What Python would call the type of a JSON value; DRF's sentences show it.
fn python_type(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'{') => "dict",
        Some(b'[') => "list",
        Some(b'"') => "str",
        Some(b't' | b'f') => "bool",
        Some(b'n') => "NoneType",
        _ if raw.get().contains(['.', 'e', 'E']) => "float",
        _ => "int",
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;
    use crate::store::ids::CollectionId;

    #[derive(Debug)]
    struct Sample {
        name: String,
        k: Option<i64>,
        collections: Option<Vec<CollectionId>>,
    }

    impl Form for Sample {
        fn read(fields: &mut Fields<'_>) -> Option<Self> {
            let name = fields.text("name", TextRule::line(5));
            let k = fields.optional_integer("k", 1..=100);
            let collections = fields.optional_ids("collections", 3);
            Some(Self { name: name?, k, collections })
        }
    }

    async fn refused(json: &str) -> String {
        let response = Fields::parse::<Sample>(json.as_bytes()).unwrap_err().into_response();
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[test]
    fn good_input_is_read_and_trimmed_and_the_last_duplicate_counts() {
        let sample: Sample = Fields::parse(br#"{"name": "x", "name": "  ab\u00e9  ", "k": 100}"#).unwrap();
        assert_eq!((sample.name.as_str(), sample.k), ("ab\u{e9}", Some(100)));
        assert!(sample.collections.is_none());
    }

    #[tokio::test]
    async fn each_mistake_has_its_sentence_and_all_fields_are_reported_together() {
        assert_eq!(
            refused(r#"{"k": 101, "collections": "x"}"#).await,
            r#"{"name":["This field is required."],"k":["Ensure this value is less than or equal to 100."],"collections":["Expected a list of items but got type \"str\"."]}"#
        );
        assert_eq!(
            refused(r#"{"name": "  ", "k": "x", "collections": ["x"]}"#).await,
            r#"{"name":["This field may not be blank."],"k":["A valid integer is required."],"collections":{"0":["Must be a valid UUID."]}}"#
        );
        assert_eq!(refused(r#"{"name": null}"#).await, r#"{"name":["This field may not be null."]}"#);
        assert_eq!(refused(r#"{"name": true}"#).await, r#"{"name":["Not a valid string."]}"#);
        assert_eq!(
            refused(r#"{"name": "a\u0000b"}"#).await,
            r#"{"name":["Null characters are not allowed."]}"#
        );
        assert_eq!(
            refused(r#"{"name": "abcdef"}"#).await,
            r#"{"name":["Ensure this field has no more than 5 characters."]}"#
        );
    }

    #[tokio::test]
    async fn what_is_not_an_object_is_named_as_python_names_it() {
        assert_eq!(
            refused("[1]").await,
            r#"{"non_field_errors":["Invalid data. Expected a dictionary, but got list."]}"#
        );
        assert!(refused(r#"{"name": "#).await.starts_with(r#"{"detail":"JSON parse error - "#));
        assert!(refused(&"[".repeat(100_000)).await.starts_with(r#"{"detail":"JSON parse error - "#));
    }
}
