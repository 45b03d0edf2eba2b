//! The options of a signature: those of its producer's `apply_async`.

use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::headers;
use super::iso_time::Moment;
use super::json::Json;
use super::signature::Signature;
use super::unreadable::Unreadable;

/// What the members of a group have in common.
pub(crate) struct Members<'a> {
    pub(crate) id: Option<&'a str>,
    pub(crate) index: Option<u32>,
    /// Options of the group, which are those of each member.
    pub(crate) options: &'a [(String, Json)],
}

impl Members<'_> {
    /// It is no member.
    pub(crate) const NONE: Self = Self { id: None, index: None, options: &[] };
}

/// The options of a signature, and those of the group that it is in, which come first.
pub(crate) struct Options<'a> {
    pub(crate) signature: &'a Signature,
    pub(crate) of: &'a Members<'a>,
}

impl<'a> Options<'a> {
    pub(crate) fn get(&self, name: &str) -> Option<&'a Json> {
        let of_group = self.of.options.iter().rev().find(|(key, value)| key == name && !value.is_null());
        of_group.map(|(_, value)| value).or_else(|| self.own(name))
    }

    pub(crate) fn own(&self, name: &str) -> Option<&'a Json> {
        self.signature.option(name)
    }

    pub(crate) fn text(&self, name: &'static str) -> Result<Option<String>, Unreadable> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = value.text().ok_or(Unreadable::Header { name, expected: "a text" })?;
        if text.len() > headers::LONGEST_NAME {
            return Err(Unreadable::TooLarge { what: name, bytes: text.len(), most: headers::LONGEST_NAME });
        }
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    pub(crate) fn texts(&self, name: &'static str) -> Result<Option<Vec<String>>, Unreadable> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let elements = value.elements().map_err(Unreadable::json(name))?;
        let texts: Option<Vec<String>> = elements.iter().map(Json::text).collect();
        texts.map(Some).ok_or(Unreadable::Header { name, expected: "a list of texts" })
    }

    pub(crate) fn count(&self, name: &'static str) -> Result<Option<u32>, Unreadable> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let count = value.integer().and_then(|count| u32::try_from(count).ok());
        count.map(Some).ok_or(Unreadable::Header { name, expected: "a count" })
    }

    pub(crate) fn seconds(&self, name: &'static str) -> Result<Option<f64>, Unreadable> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let seconds = value.number().filter(|seconds| *seconds >= 0.0);
        seconds.map(Some).ok_or(Unreadable::Header { name, expected: "a time in seconds" })
    }

    pub(crate) fn signatures(&self, name: &'static str) -> Result<Vec<Signature>, Unreadable> {
        self.get(name).map_or(Ok(Vec::new()), |value| Signature::parse_all(value, name))
    }

    /// Returns a moment that is said as one, or as seconds from now on.
    pub(crate) fn delayed(
        &self,
        name: &'static str,
        seconds: &'static str,
        now: Moment,
    ) -> Result<Option<Moment>, Unreadable> {
        if let Some(delay) = self.get(seconds).and_then(Json::number) {
            // Whoever wants it in a million years gets it then.
            #[expect(clippy::cast_possible_truncation)]
            return Ok(Some(Moment(now.0.saturating_add((delay * 1000.0) as i64))));
        }
        let Some(value) = self.get(name) else { return Ok(None) };
        // As Celery's JSON has a `datetime` that was not a text yet.
        let typed = value.members().ok().and_then(|members| {
            members.into_iter().find(|(key, _)| key == "__value__").map(|(_, value)| value)
        });
        let moment = typed.as_ref().unwrap_or(value).text().and_then(|text| Moment::parse(&text));
        moment.map(Some).ok_or(Unreadable::Header { name, expected: "a time as ISO 8601 writes it" })
    }
}

/// Returns a table of values that headers can have.
pub(crate) fn table<'a>(
    members: impl Iterator<Item = (&'a str, &'a Json)>,
) -> Result<FieldTable, Unreadable> {
    let mut table = FieldTable::default();
    for (name, value) in members {
        let name = name.to_owned();
        let short = ShortString::try_new(name).map_err(|_| Unreadable::TooLarge {
            what: "headers",
            bytes: 256,
            most: headers::LONGEST_NAME,
        })?;
        table.insert(short, header(value)?);
    }
    Ok(table)
}

/// Returns a value of JSON as a header.
fn header(value: &Json) -> Result<AMQPValue, Unreadable> {
    let wrong = Unreadable::Header { name: "headers", expected: "made of what headers can be" };
    Ok(match value.as_str().as_bytes() {
        [b'n', ..] => AMQPValue::Void,
        [b't' | b'f', ..] => AMQPValue::Boolean(value.boolean().ok_or(wrong)?),
        [b'"', ..] => headers::of_text(&value.text().ok_or(wrong)?),
        [b'{', ..] => return Err(wrong),
        [b'[', ..] => {
            let elements = value.elements().map_err(Unreadable::json("headers"))?;
            let nested = elements.iter().any(|element| element.as_str().starts_with(['[', '{']));
            if nested {
                return Err(wrong);
            }
            let values: Result<Vec<_>, _> = elements.iter().map(header).collect();
            AMQPValue::FieldArray(values?.into())
        }
        _ => match value.integer() {
            Some(integer) => {
                i32::try_from(integer).map_or(AMQPValue::LongLongInt(integer), AMQPValue::LongInt)
            }
            None => AMQPValue::Double(value.number().ok_or(wrong)?),
        },
    })
}
