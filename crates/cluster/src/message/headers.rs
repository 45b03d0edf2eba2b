//! The headers of a message, by their types.

use lapin::types::{AMQPValue, FieldArray, FieldTable, LongString, ShortString};

use super::unreadable::Unreadable;

/// The longest name and id: they become properties and routing keys, which are no longer.
pub(crate) const LONGEST_NAME: usize = 255;

/// Returns a header that is a text, or nothing.
pub(crate) fn text(table: &FieldTable, name: &'static str) -> Result<Option<String>, Unreadable> {
    let expected = Unreadable::Header { name, expected: "a text" };
    match table.inner().get(name) {
        None | Some(AMQPValue::Void) => Ok(None),
        Some(AMQPValue::LongString(text)) => as_text(text).map(Some).ok_or(expected),
        Some(AMQPValue::ShortString(text)) => Ok(Some(text.to_string())),
        Some(_) => Err(expected),
    }
}

/// Returns a header that is the name or the id of something, or nothing.
pub(crate) fn name(table: &FieldTable, name: &'static str) -> Result<Option<String>, Unreadable> {
    let found = text(table, name)?;
    match &found {
        Some(found) if found.len() > LONGEST_NAME => {
            Err(Unreadable::TooLarge { what: name, bytes: found.len(), most: LONGEST_NAME })
        }
        _ => Ok(found),
    }
}

/// Returns a header that is a count, or nothing.
pub(crate) fn count(table: &FieldTable, name: &'static str) -> Result<Option<u32>, Unreadable> {
    let expected = Unreadable::Header { name, expected: "a count" };
    let Some(value) = table.inner().get(name).filter(|value| **value != AMQPValue::Void) else {
        return Ok(None);
    };
    integer(value).and_then(|value| u32::try_from(value).ok()).map(Some).ok_or(expected)
}

/// Returns a header that is true or false, or nothing.
pub(crate) fn flag(table: &FieldTable, name: &'static str) -> Result<Option<bool>, Unreadable> {
    match table.inner().get(name) {
        None | Some(AMQPValue::Void) => Ok(None),
        Some(AMQPValue::Boolean(value)) => Ok(Some(*value)),
        Some(_) => Err(Unreadable::Header { name, expected: "true or false" }),
    }
}

/// Returns the elements of a header that is a list, or nothing.
pub(crate) fn list<'a>(
    table: &'a FieldTable,
    name: &'static str,
) -> Result<Option<&'a [AMQPValue]>, Unreadable> {
    match table.inner().get(name) {
        None | Some(AMQPValue::Void) => Ok(None),
        Some(AMQPValue::FieldArray(array)) => Ok(Some(array.as_slice())),
        Some(_) => Err(Unreadable::Header { name, expected: "a list" }),
    }
}

/// Returns the integer that a value is, whichever of AMQP's widths it has.
pub(crate) fn integer(value: &AMQPValue) -> Option<i64> {
    match *value {
        AMQPValue::ShortShortInt(value) => Some(value.into()),
        AMQPValue::ShortShortUInt(value) => Some(value.into()),
        AMQPValue::ShortInt(value) => Some(value.into()),
        AMQPValue::ShortUInt(value) => Some(value.into()),
        AMQPValue::LongInt(value) => Some(value.into()),
        AMQPValue::LongUInt(value) => Some(value.into()),
        AMQPValue::LongLongInt(value) => Some(value),
        _ => None,
    }
}

/// Returns the number that a value is.
pub(crate) fn number(value: &AMQPValue) -> Option<f64> {
    match value {
        AMQPValue::Float(value) => Some(f64::from(*value)),
        AMQPValue::Double(value) => Some(*value),
        // Exact up to 285 million years of seconds.
        #[expect(clippy::cast_precision_loss)]
        _ => integer(value).map(|value| value as f64),
    }
}

/// Returns the text that bytes are.
pub(crate) fn as_text(text: &LongString) -> Option<String> {
    std::str::from_utf8(text.as_bytes()).ok().map(str::to_owned)
}

/// Returns the value of a text.
pub(crate) fn of_text(text: &str) -> AMQPValue {
    AMQPValue::LongString(text.into())
}

/// Returns the value of what may be there.
pub(crate) fn of_option<T>(value: Option<T>, of: impl FnOnce(T) -> AMQPValue) -> AMQPValue {
    value.map_or(AMQPValue::Void, of)
}

/// Returns the value of a count: 32 bits, as older clients misread others.
pub(crate) fn of_count(count: u32) -> AMQPValue {
    AMQPValue::LongInt(i32::try_from(count).unwrap_or(i32::MAX))
}

/// Returns the value of texts.
pub(crate) fn of_texts(texts: &[String]) -> AMQPValue {
    AMQPValue::FieldArray(FieldArray::from(texts.iter().map(|text| of_text(text)).collect::<Vec<_>>()))
}

/// Adds a header, whose name is one of ours and short.
pub(crate) fn insert(table: &mut FieldTable, name: &'static str, value: AMQPValue) {
    table.insert(name.into(), value);
}

/// Returns a property, cut where it would be too long for one; nothing that has been read is.
pub(crate) fn property(text: &str) -> ShortString {
    let mut end = text.len().min(LONGEST_NAME);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}
