//! What a task message carries: arguments, and what follows.

use lapin::BasicProperties;
use lapin::types::ShortString;

use super::headers;
use super::json::{self, Json};
use super::signature::Signature;
use super::unreadable::Unreadable;

/// The content type of JSON.
pub(crate) const JSON: &str = "application/json";
/// The content types whose bodies only Python decodes, with the names that Celery's serializers have.
const OPAQUE: [(&str, &str); 5] = [
    ("application/x-python-serialize", "pickle"),
    ("application/x-msgpack", "msgpack"),
    ("application/x-yaml", "yaml"),
    ("application/yaml", "yaml"),
    ("application/data", "raw"),
];
/// What calls deflate with zlib's header: Celery's name says gzip, and means this.
const ZLIB: [&str; 3] = ["application/x-gzip", "zlib", "gzip"];

/// How much is taken from a stranger.
///
/// ```
/// use manyhands_cluster::message::Limits;
///
/// assert_eq!(Limits { body: 1 << 20 }.body, 1_048_576);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of a body, also after it was decompressed. 32 MiB by default.
    pub body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body: 32 << 20 }
    }
}

/// The body of a task message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// As JSON: `[args, kwargs, embed]`.
    Json {
        /// The arguments: a list.
        args: Json,
        /// The keyword arguments: an object.
        kwargs: Json,
        /// What follows the task.
        embed: Embed,
    },
    /// In a form that only Python decodes, as pickle.
    Opaque {
        /// Its content type.
        content_type: String,
        /// Its content encoding: `binary`.
        content_encoding: String,
        /// Its bytes, decompressed.
        bytes: Vec<u8>,
    },
}

/// What follows a task, as its producer asked.
///
/// ```
/// use manyhands_cluster::message::{Embed, Json};
///
/// let embed = Embed::parse(&Json::parse(r#"{"callbacks": [{"task": "log"}], "chain": null}"#)?)?;
/// assert_eq!(embed.callbacks[0].task(), "log");
/// assert!(embed.chain.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Embed {
    /// Sent with the result when the task has succeeded.
    pub callbacks: Vec<Signature>,
    /// Sent, or called, when it has failed.
    pub errbacks: Vec<Signature>,
    /// The rest of the chain, the next one last.
    pub chain: Vec<Signature>,
    /// What counts the task, with others, and follows when all have succeeded.
    pub chord: Option<Signature>,
}

impl Embed {
    /// Reads the third element of a body.
    ///
    /// # Errors
    /// It is no object, or has what is no signature.
    pub fn parse(json: &Json) -> Result<Self, Unreadable> {
        let mut embed = Self::default();
        if json.is_null() {
            return Ok(embed);
        }
        for (key, value) in json.members().map_err(Unreadable::json("third element"))? {
            match key.as_str() {
                "callbacks" => embed.callbacks = Signature::parse_all(&value, "callbacks")?,
                "errbacks" => embed.errbacks = Signature::parse_all(&value, "errbacks")?,
                "chain" => embed.chain = Signature::parse_all(&value, "chain")?,
                "chord" if !value.is_null() => embed.chord = Some(Signature::parse(&value, "chord")?),
                _ => {}
            }
        }
        Ok(embed)
    }

    /// Returns it as JSON.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let all = |signatures: &[Signature]| match signatures {
            [] => Json::NULL,
            _ => Json::array(signatures.iter().map(Signature::to_json)),
        };
        let chord = self.chord.as_ref().map_or(Json::NULL, Signature::to_json);
        Json::object([
            ("callbacks", all(&self.callbacks)),
            ("errbacks", all(&self.errbacks)),
            ("chain", all(&self.chain)),
            ("chord", chord),
        ])
    }
}

impl Content {
    /// Returns what JSON arguments are as content, with nothing that follows.
    #[must_use]
    pub fn json(args: Json, kwargs: Json) -> Self {
        Self::Json { args, kwargs, embed: Embed::default() }
    }

    /// Returns pickled `(args, kwargs, embed)` as content.
    #[must_use]
    pub fn pickle(bytes: Vec<u8>) -> Self {
        Self::Opaque { content_type: OPAQUE[0].0.to_owned(), content_encoding: "binary".to_owned(), bytes }
    }

    /// Whether Python must decode it, and may refuse to: pickle runs what its sender wants.
    #[must_use]
    pub fn is_opaque(&self) -> bool {
        matches!(self, Self::Opaque { .. })
    }

    /// Returns the name of Celery's serializer for it, as in `accept_content`.
    #[must_use]
    pub fn serializer(&self) -> &'static str {
        match self {
            Self::Json { .. } => "json",
            Self::Opaque { content_type, .. } => {
                OPAQUE.iter().find(|(kind, _)| kind == content_type).map_or("unknown", |(_, name)| name)
            }
        }
    }

    /// Returns its content type and content encoding.
    #[must_use]
    pub fn types(&self) -> (&str, &str) {
        match self {
            Self::Json { .. } => (JSON, "utf-8"),
            Self::Opaque { content_type, content_encoding, .. } => (content_type, content_encoding),
        }
    }

    /// Returns the bytes of the body.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Json { args, kwargs, embed } => {
                Json::array([args.clone(), kwargs.clone(), embed.to_json()]).as_str().as_bytes().to_vec()
            }
            Self::Opaque { bytes, .. } => bytes.clone(),
        }
    }

    /// Reads the body of a message in protocol 2.
    pub(crate) fn parse(body: Body) -> Result<Self, Unreadable> {
        match body {
            Body::Opaque(content) => Ok(content),
            Body::Json(text) => {
                let elements = json::elements(&text).map_err(Unreadable::json("body"))?;
                let [args, kwargs, embed] = <[Json; 3]>::try_from(elements)
                    .map_err(|elements| Unreadable::BodyLength(elements.len()))?;
                Self::checked(args, kwargs, Embed::parse(&embed)?)
            }
        }
    }

    /// Returns arguments as content once they are what arguments are.
    pub(crate) fn checked(args: Json, kwargs: Json, embed: Embed) -> Result<Self, Unreadable> {
        let wrong = |part, expected| {
            let error = json::BadJson::not(expected);
            Err(Unreadable::Json { part, error })
        };
        match (args.as_str().as_bytes().first(), kwargs.as_str().as_bytes().first()) {
            (Some(b'['), Some(b'{')) => Ok(Self::Json { args, kwargs, embed }),
            (Some(b'['), _) => wrong("kwargs", "an object"),
            _ => wrong("args", "a list"),
        }
    }
}

/// A body, decompressed, of a known type.
#[derive(Debug)]
pub(crate) enum Body {
    /// A text that should be JSON.
    Json(String),
    /// What only Python decodes.
    Opaque(Content),
}

impl Body {
    /// Reads a body as its properties and headers say.
    pub(crate) fn read(
        properties: &BasicProperties,
        bytes: &[u8],
        limits: Limits,
    ) -> Result<Self, Unreadable> {
        let text = |property: &Option<ShortString>| property.as_ref().map(|text| text.as_str().to_owned());
        let kind = text(properties.content_type()).unwrap_or_default();
        let encoding = text(properties.content_encoding()).unwrap_or_default();
        let bytes = plain(properties, bytes, limits)?;
        if kind == JSON {
            // Some producers call it binary, and Celery does not look.
            if !["utf-8", "utf8", "us-ascii", "ascii", "binary", ""]
                .contains(&encoding.to_ascii_lowercase().as_str())
            {
                return Err(Unreadable::ContentEncoding(encoding));
            }
            return String::from_utf8(bytes).map(Self::Json).map_err(|_| Unreadable::NotUtf8);
        }
        if !OPAQUE.iter().any(|(known, _)| *known == kind) {
            return Err(Unreadable::ContentType(kind));
        }
        Ok(Self::Opaque(Content::Opaque { content_type: kind, content_encoding: encoding, bytes }))
    }

    /// Returns the text that it is, where nothing but JSON is understood.
    pub(crate) fn into_text(self) -> Result<String, Unreadable> {
        match self {
            Self::Json(text) => Ok(text),
            Self::Opaque(content) => Err(Unreadable::ContentType(content.types().0.to_owned())),
        }
    }
}

/// Returns the bytes of a body, decompressed, and no more than allowed.
fn plain(properties: &BasicProperties, bytes: &[u8], limits: Limits) -> Result<Vec<u8>, Unreadable> {
    let too_large = |bytes| Unreadable::TooLarge { what: "body", bytes, most: limits.body };
    if bytes.len() > limits.body {
        return Err(too_large(bytes.len()));
    }
    let table = properties.headers().as_ref();
    let Some(compression) = table.map(|table| headers::text(table, "compression")).transpose()?.flatten()
    else {
        return Ok(bytes.to_vec());
    };
    if !ZLIB.contains(&compression.as_str()) {
        return Err(Unreadable::Compression(compression));
    }
    miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(bytes, limits.body).map_err(|error| {
        match error.status {
            miniz_oxide::inflate::TINFLStatus::HasMoreOutput => too_large(limits.body),
            _ => Unreadable::Damaged,
        }
    })
}
