//! The options of commands that visit a broker: `doctor` and `dead`.

/// Options of `manyhands doctor`.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct DoctorOptions {
    /// The broker, such as amqps://user:password@host/vhost [default: $AMQP_URL,
    /// or this machine's: that of --dev while it runs]
    #[arg(value_name = "URL")]
    pub broker: Option<String>,

    /// A file that has the broker's URL
    #[arg(long, value_name = "FILE", conflicts_with = "broker")]
    pub broker_file: Option<String>,

    /// The queues to look at
    #[arg(long, value_name = "QUEUE,…", default_value = "celery", value_delimiter = ',')]
    pub queues: Vec<String>,

    /// The longest time limit of a task, in seconds, for which brokers have limits of their own
    #[arg(long, value_name = "SECONDS")]
    pub time_limit: Option<f64>,
}

/// What may be done with dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Act {
    /// Show them, and leave them where they are
    Inspect,
    /// Send them back to where they are from
    Replay,
    /// Remove them
    Drop,
}

impl Act {
    /// What users call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Inspect => "inspect",
            Self::Replay => "replay",
            Self::Drop => "drop",
        }
    }
}

/// Options of `manyhands dead`.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct DeadOptions {
    /// What to do with them
    #[arg(value_name = "inspect|replay|drop")]
    pub act: Act,

    /// The queue that they are from
    #[arg(value_name = "QUEUE")]
    pub queue: String,

    /// Only the letters of these tasks
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    pub ids: Vec<String>,

    /// All letters, however many there are
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,

    /// Send them to this queue instead
    #[arg(long, value_name = "QUEUE")]
    pub to: Option<String>,

    /// Print a JSON object for each letter
    #[arg(long)]
    pub json: bool,

    /// The broker, such as amqps://user:password@host/vhost [default: $AMQP_URL,
    /// or this machine's: that of --dev while it runs]
    #[arg(long, value_name = "URL")]
    pub broker: Option<String>,

    /// A file that has the broker's URL
    #[arg(long, value_name = "FILE", conflicts_with = "broker")]
    pub broker_file: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::Act;
    use crate::arguments::{Request, parse};
    use crate::ink::Ink;

    fn read(line: &str) -> Result<Request, String> {
        let words = std::iter::once("manyhands").chain(line.split_whitespace()).map(Into::into);
        parse(words, Ink::Colourless, Ink::Colourless).map_err(|answer| answer.text)
    }

    #[test]
    fn doctor_takes_its_options() {
        let Ok(Request::Doctor(options)) = read("doctor amqp://host --queues a,b --time-limit 3600") else {
            panic!("not understood");
        };
        assert_eq!((options.broker.as_deref(), options.time_limit), (Some("amqp://host"), Some(3600.0)));
        assert_eq!(options.queues, ["a", "b"]);
    }

    #[test]
    fn dead_takes_its_options() {
        let Ok(Request::Dead(options)) = read("dead replay orders --ids 1,2 --to other") else {
            panic!("not understood");
        };
        assert_eq!((options.act, options.queue.as_str(), options.all), (Act::Replay, "orders", false));
        assert_eq!((options.ids, options.to.as_deref()), (vec!["1".into(), "2".into()], Some("other")));
        assert!(read("dead bury orders").is_err_and(|text| text.contains("inspect, replay, drop")));
        assert!(
            read("dead drop orders --all --ids 1").is_err_and(|text| text.contains("cannot be used with"))
        );
        assert!(read("dead inspect").is_err_and(|text| text.contains("QUEUE")));
    }
}
