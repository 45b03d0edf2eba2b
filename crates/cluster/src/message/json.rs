//! JSON as Python's `json` writes and reads it, kept as text.
//!
//! What a task is called with and what it returns is nobody's business here: it is checked once, and goes on as it came.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The most elements of a list, and the most members of an object, that are told apart.
pub const MOST_PIECES: usize = 1 << 17;
/// The three numbers of Python that JSON does not have, longest first.
const NUMBERS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];

/// One value as JSON text: whole, well-formed, and as its producer wrote it.
///
/// ```
/// use manyhands_cluster::message::Json;
///
/// let args = Json::parse(r#"[2, {"deep": [NaN]}]"#)?;
/// let elements = args.elements()?;
/// assert_eq!(elements[0].integer(), Some(2));
/// assert_eq!(elements[1].as_str(), r#"{"deep": [NaN]}"#);
/// assert_eq!(Json::array([Json::from("é"), Json::NULL]).as_str(), r#"["\u00e9", null]"#);
/// # Ok::<(), manyhands_cluster::message::BadJson>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Cow<'static, str>);

/// A text is not JSON, or not of the kind that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadJson {
    /// What was expected.
    pub expected: &'static str,
    /// The line where it is wrong, from 1; 0 where it is the whole.
    pub line: usize,
    /// The column there, from 1.
    pub column: usize,
}

impl BadJson {
    /// The whole of it is something else.
    pub(crate) fn not(expected: &'static str) -> Self {
        Self { expected, line: 0, column: 0 }
    }
}

impl fmt::Display for BadJson {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, line, column } = self;
        match line {
            0 => write!(formatter, "it is not {expected}"),
            _ => write!(formatter, "it is not {expected}: see line {line}, column {column}"),
        }
    }
}

impl std::error::Error for BadJson {}

impl Json {
    /// `null`.
    pub const NULL: Self = Self(Cow::Borrowed("null"));
    /// `[]`.
    pub const EMPTY_ARRAY: Self = Self(Cow::Borrowed("[]"));
    /// `{}`.
    pub const EMPTY_OBJECT: Self = Self(Cow::Borrowed("{}"));

    /// Takes a text, and checks it.
    ///
    /// # Errors
    /// It is not one JSON value.
    pub fn parse(text: &str) -> Result<Self, BadJson> {
        let masked = masked(text);
        let piece = serde_json::from_str(&masked).map_err(|error| bad("JSON", &error))?;
        Ok(original(text, &masked, piece))
    }

    /// Takes what an encoder of JSON has made, unchecked.
    #[must_use]
    pub fn from_encoder(text: String) -> Self {
        Self(Cow::Owned(text))
    }

    /// Returns a list of values, written as Python writes it.
    #[must_use]
    pub fn array(elements: impl IntoIterator<Item = Self>) -> Self {
        let mut text = String::from("[");
        for (index, element) in elements.into_iter().enumerate() {
            text.push_str(if index == 0 { "" } else { ", " });
            text.push_str(&element.0);
        }
        text.push(']');
        Self(Cow::Owned(text))
    }

    /// Returns an object of these members, in their order, written as Python writes it.
    #[must_use]
    pub fn object<K: AsRef<str>>(members: impl IntoIterator<Item = (K, Self)>) -> Self {
        let mut text = String::from("{");
        for (index, (key, value)) in members.into_iter().enumerate() {
            text.push_str(if index == 0 { "" } else { ", " });
            write_string(&mut text, key.as_ref());
            text.push_str(": ");
            text.push_str(&value.0);
        }
        text.push('}');
        Self(Cow::Owned(text))
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.0 == "null"
    }

    /// Returns the string that it is, or `None`.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        serde_json::from_str(&self.0).ok()
    }

    /// Returns the integer that it is, or `None`.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        serde_json::from_str(&self.0).ok()
    }

    /// Returns the finite number that it is, or `None`.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        // To the last bit, other than `serde_json`.
        self.0.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// Returns the truth value that it is, or `None`.
    #[must_use]
    pub fn boolean(&self) -> Option<bool> {
        serde_json::from_str(&self.0).ok()
    }

    /// Returns the elements of the list that it is.
    ///
    /// # Errors
    /// It is no list, or one of more than [`MOST_PIECES`].
    pub fn elements(&self) -> Result<Vec<Self>, BadJson> {
        elements(&self.0)
    }

    /// Returns the members of the object that it is, in their order; of two with one key, the last one holds.
    ///
    /// # Errors
    /// It is no object, or one of more than [`MOST_PIECES`].
    pub fn members(&self) -> Result<Vec<(String, Self)>, BadJson> {
        members(&self.0)
    }
}

/// Returns the elements of a text that is a list.
pub(crate) fn elements(text: &str) -> Result<Vec<Json>, BadJson> {
    let masked = masked(text);
    let Pieces(pieces) = serde_json::from_str(&masked).map_err(|error| bad("a list", &error))?;
    Ok(pieces.into_iter().map(|((), piece)| original(text, &masked, piece)).collect())
}

/// Returns the members of a text that is an object.
pub(crate) fn members(text: &str) -> Result<Vec<(String, Json)>, BadJson> {
    let masked = masked(text);
    let Members(pieces) = serde_json::from_str(&masked).map_err(|error| bad("an object", &error))?;
    Ok(pieces.into_iter().map(|(key, piece)| (key, original(text, &masked, piece))).collect())
}

impl Default for Json {
    fn default() -> Self {
        Self::NULL
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<&str> for Json {
    fn from(value: &str) -> Self {
        let mut text = String::with_capacity(value.len() + 2);
        write_string(&mut text, value);
        Self(Cow::Owned(text))
    }
}

impl From<i64> for Json {
    fn from(value: i64) -> Self {
        Self(Cow::Owned(value.to_string()))
    }
}

impl From<f64> for Json {
    fn from(value: f64) -> Self {
        // As Python writes them: always with a point, and these by name.
        Self(Cow::Owned(match value {
            _ if value.is_nan() => "NaN".to_owned(),
            _ if value.is_infinite() => if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
            _ => format!("{value:?}"),
        }))
    }
}

impl From<bool> for Json {
    fn from(value: bool) -> Self {
        Self(Cow::Borrowed(if value { "true" } else { "false" }))
    }
}

impl<T: Into<Self>> From<Option<T>> for Json {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::NULL, Into::into)
    }
}

/// What is told of an error of the parser: where, and not what was there, which may be secret.
fn bad(expected: &'static str, error: &serde_json::Error) -> BadJson {
    BadJson { expected, line: error.line(), column: error.column() }
}

/// Returns a text of the same length in which each number that only Python knows is a list instead: a value that, like them, can neither be a
/// key nor run into its neighbours.
fn masked(text: &str) -> Cow<'_, str> {
    if !NUMBERS.iter().any(|number| text.contains(number)) {
        return Cow::Borrowed(text);
    }
    let mut masked = String::with_capacity(text.len());
    let (mut rest, mut inside) = (text, false);
    while let Some(first) = rest.chars().next() {
        let number = NUMBERS.into_iter().find(|number| !inside && rest.starts_with(number));
        let length = match (number, first) {
            (Some(number), _) => {
                let _ = write!(masked, "[{:1<1$}]", "", number.len() - 2);
                rest = &rest[number.len()..];
                continue;
            }
            // With what it escapes.
            (None, '\\') => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            (None, _) => first.len_utf8(),
        };
        inside ^= first == '"';
        masked.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    Cow::Owned(masked)
}

/// Returns the piece of the original text that stands where `piece` is in the masked one.
fn original(text: &str, masked: &str, piece: &RawValue) -> Json {
    let begin = piece.get().as_ptr().addr() - masked.as_ptr().addr();
    Json(Cow::Owned(text[begin..begin + piece.get().len()].to_owned()))
}

fn write_string(text: &mut String, value: &str) {
    text.push('"');
    for each in value.chars() {
        match each {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            ' '..='~' => text.push(each),
            _ => {
                for unit in each.encode_utf16(&mut [0; 2]) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
        }
    }
    text.push('"');
}

/// The values of a list, not looked into; as pairs, like the members of an object.
struct Pieces<'a>(Vec<((), &'a RawValue)>);
/// The members of an object, their values not looked into.
struct Members<'a>(Vec<(String, &'a RawValue)>);

struct PiecesVisitor;

impl<'de> Visitor<'de> for PiecesVisitor {
    type Value = Vec<((), &'de RawValue)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        collect(|| Ok(from.next_element()?.map(|piece| ((), piece))))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Pieces<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_seq(PiecesVisitor).map(Self)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Self::Value, A::Error> {
        collect(|| from.next_entry())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(MembersVisitor).map(Self)
    }
}

/// Takes pieces as long as there are some, and not too many: each costs more memory than its text.
fn collect<T, E: de::Error>(mut next: impl FnMut() -> Result<Option<T>, E>) -> Result<Vec<T>, E> {
    let mut pieces = Vec::new();
    while let Some(piece) = next()? {
        if pieces.len() == MOST_PIECES {
            return Err(E::custom("too many"));
        }
        pieces.push(piece);
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_that_only_python_knows_are_values() {
        let text = r#"[NaN, "NaN \" Infinity", -Infinity, {"a": [Infinity]}]"#;
        let elements = Json::parse(text).expect("Python's").elements().expect("a list");
        let texts: Vec<&str> = elements.iter().map(Json::as_str).collect();
        assert_eq!(texts, ["NaN", r#""NaN \" Infinity""#, "-Infinity", r#"{"a": [Infinity]}"#]);
        for text in ["NaNNaN", "1NaN", "-NaN", "{NaN: 1}", "[NaN", "Infinit", "NaN\"", "\"\\NaN\""] {
            assert!(Json::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = format!("[{}{}]", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(Json::parse(&deep).expect("well-formed").elements().map(|elements| elements.len()), Ok(1));
    }

    #[test]
    fn many_pieces_are_refused() {
        let list = |count| format!("[{}0]", "0,".repeat(count - 1));
        assert!(elements(&list(MOST_PIECES)).is_ok());
        assert!(elements(&list(MOST_PIECES + 1)).is_err());
    }

    #[test]
    fn strings_are_written_as_python_does() {
        let json = Json::from("\"\\/\n\r\t\u{8}\u{c}\u{0}\u{7f}é€😀 ~");
        assert_eq!(json.as_str(), r#""\"\\/\n\r\t\b\f\u0000\u007f\u00e9\u20ac\ud83d\ude00 ~""#);
    }

    proptest::proptest! {
        #[test]
        fn strings_come_back(text: String) {
            assert_eq!(Json::from(text.as_str()).text(), Some(text));
        }

        #[test]
        fn any_text_is_taken_or_refused(text in "[\\[\\]{}:,\"\\\\0-9NaInfity. -]{0,40}") {
            if let Ok(json) = Json::parse(&text) {
                for element in json.elements().unwrap_or_default() {
                    assert!(Json::parse(element.as_str()).is_ok(), "{text}");
                }
            }
            let _ = members(&text);
        }
    }
}
