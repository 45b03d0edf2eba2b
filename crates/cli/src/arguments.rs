//! The command line of `manyhands`: commands, options, their help texts and their errors.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand, ValueEnum};

use crate::ink::Ink;

/// Many hands make light work: run Python in threads and processes through one interface.
#[derive(Debug, Parser)]
#[command(name = "manyhands", bin_name = "manyhands", version, max_term_width = 100)]
#[command(arg_required_else_help = true, subcommand_required = true)]
struct Arguments {
    #[command(subcommand)]
    request: Request,
}

/// A command with its options, as the user asked for it.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Request {
    /// Compare threads and processes on this machine
    ///
    /// Runs three jobs on real input, the source files of Python's standard library: parse computes
    /// under the GIL, compress runs native code that releases it, fetch waits for a local server.
    /// Each job runs sequentially, on threads, on processes and with workers="auto". Shows the
    /// times, checks that all results are equal, and says what "auto" chose and why. Takes about
    /// 20 seconds.
    #[command(after_help = "\
Exit status: 0 when all results are equal, 1 when they are not or the jobs cannot be run, 2 for \
invalid arguments, 130 when interrupted.")]
    Demo(DemoOptions),

    /// Show this user's pools, queues and locks, their holders and waiters
    ///
    /// Shows the pools, named objects, queues and locks of all this user's programs on this machine
    /// in a table that is refreshed until you press q. It only reads: no program is disturbed. The
    /// columns are described in docs/command/top.md.
    #[command(after_help = "\
Exit status: 0, even when there is nothing to show; 1 when something failed or a name given to \
--clean does not exist, 2 for invalid arguments, 130 when interrupted.")]
    Top(TopOptions),

    /// Serve the clients that connect to an address, each with a call of a handler
    ///
    /// The handler is a function of a socket, or a class for socketserver, in a module that is found
    /// in the working directory or installed. SIGTERM and Ctrl-C let handlers finish, a second one
    /// ends their connections; SIGHUP has new processes take over, with the module as it is then.
    /// Under systemd it says when it is ready, and serves the socket that it is given.
    #[command(after_help = "\
Exit status: 0 when it was told to end, 1 when it cannot serve, 2 for invalid arguments.")]
    Serve(ServeOptions),
}

/// Options of `manyhands serve`.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct ServeOptions {
    /// The handler, such as dinos:LookUp for LookUp in dinos.py
    #[arg(value_name = "MODULE:HANDLER")]
    pub target: String,

    /// Where to listen: HOST:PORT, unix:PATH, or fd:N for an inherited socket [default:
    /// 127.0.0.1:9000, or what systemd hands over]
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<String>,

    /// thread or process, and how many: thread:64, process:4
    #[arg(long, value_name = "KIND[:N]", default_value = "thread", value_parser = workers)]
    pub workers: String,

    /// How many connections may be open at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: Option<u32>,

    /// How many connections may wait for a worker
    #[arg(long, value_name = "N")]
    pub max_queue: Option<u32>,

    /// What becomes of a connection that finds the queue full [default: wait]
    #[arg(long, value_name = "wait|reject", value_parser = ["wait", "reject"])]
    pub overflow: Option<String>,

    /// Seconds that handlers have when the server ends [default: 5]
    #[arg(long, value_name = "SECONDS")]
    pub grace: Option<f64>,

    /// Seconds after which a connection is ended [default: never]
    #[arg(long, value_name = "SECONDS")]
    pub connection_timeout: Option<f64>,

    /// Seconds that a client may say nothing after it has connected [default: any]
    #[arg(long, value_name = "SECONDS")]
    pub first_byte_timeout: Option<f64>,

    /// For TLS: the file with the certificate, and maybe its key
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<String>,

    /// The file with the certificate's key
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub key: Option<String>,
}

/// Reads a kind of worker, and how many of it.
fn workers(text: &str) -> Result<String, String> {
    let (kind, number) = text.split_once(':').unwrap_or((text, "1"));
    let right = matches!(kind, "thread" | "process") && number.parse::<u16>().is_ok_and(|number| number > 0);
    right.then(|| text.to_owned()).ok_or_else(|| "must be like thread, thread:64 or process:4".to_owned())
}

/// Options of `manyhands demo`.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct DemoOptions {
    /// Run only these jobs, in this order [default: all]
    #[arg(long, value_name = "JOB,…", value_delimiter = ',')]
    #[arg(default_values_t = Job::ALL, hide_default_value = true)]
    pub jobs: Vec<Job>,

    /// Number of workers of each kind [default: the kind's own default]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,

    /// Print one JSON object instead of the table
    ///
    /// Its fields are described in `help(manyhands.demo)`.
    #[arg(long)]
    pub json: bool,

    /// Run only a small part of each job, to check that everything works; the times mean little
    #[arg(long)]
    pub quick: bool,
}

/// Options of `manyhands top`.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
pub struct TopOptions {
    /// Print the table once and exit
    #[arg(long)]
    pub once: bool,

    /// Print one JSON object instead of the table
    ///
    /// Its fields are described in docs/command/top.md.
    #[arg(long, requires = "once")]
    pub json: bool,

    /// Release what dead processes left behind, report what it was, and exit
    ///
    /// With names, also removes these names: processes that already use such an object keep it, and
    /// the next process to ask for the name gets a new one.
    #[arg(long, value_name = "NAME", num_args = 0.., conflicts_with_all = ["once", "json", "interval"])]
    pub clean: Option<Vec<String>>,

    /// Seconds between refreshes
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, conflicts_with = "once")]
    #[arg(value_parser = seconds)]
    pub interval: f64,
}

/// Reads a number of seconds that a screen can be refreshed in.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let sensible = (0.1..=3600.0).contains(&seconds);
    sensible.then_some(seconds).ok_or_else(|| "must be from 0.1 to 3600".to_owned())
}

/// A job of the demonstration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Job {
    /// ast.parse of source files: computes under the GIL
    Parse,
    /// zlib of source files: native code that releases the GIL
    Compress,
    /// pages from a local server that answers after 20 ms: waits
    Fetch,
}

impl Job {
    /// Every job, in the order in which they run.
    pub const ALL: [Self; 3] = [Self::Parse, Self::Compress, Self::Fetch];

    /// The job's name, as it is typed and shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Compress => "compress",
            Self::Fetch => "fetch",
        }
    }
}

impl std::fmt::Display for Job {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The answer to words that ask for a text rather than for work, or that are wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What to write, newline included.
    pub text: String,
    /// Whether it is what the user asked for (standard output) or a complaint (standard error).
    pub asked_for: bool,
    /// Exit status of the command.
    pub status: u8,
}

/// Understands a command line; the first word is the program's own name.
///
/// # Errors
/// An [`Answer`] for `--help` and `--version` (status 0) and for words that make no sense
/// (status 2). Its text is coloured for the stream it belongs to: `out`, or `err` for complaints.
pub fn parse(words: impl IntoIterator<Item = OsString>, out: Ink, err: Ink) -> Result<Request, Answer> {
    let error = match Arguments::try_parse_from(words) {
        Ok(Arguments { request: Request::Demo(mut options) }) => {
            let mut kept = Vec::with_capacity(options.jobs.len());
            for job in options.jobs {
                if !kept.contains(&job) {
                    kept.push(job);
                }
            }
            options.jobs = kept;
            return Ok(Request::Demo(options));
        }
        Ok(Arguments { request: request @ (Request::Top(_) | Request::Serve(_)) }) => return Ok(request),
        Err(error) => error,
    };
    let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let rendered = error.render();
    let text = match if asked_for { out } else { err } {
        Ink::Coloured => rendered.ansi().to_string(),
        Ink::Colourless => rendered.to_string(),
    };
    Err(Answer { text, asked_for, status: if asked_for { 0 } else { 2 } })
}

#[cfg(test)]
mod tests {
    use super::{Answer, Arguments, DemoOptions, Job, Request, TopOptions, parse};
    use crate::ink::Ink;
    use clap::CommandFactory;

    fn read(line: &str) -> Result<Request, Answer> {
        let words = std::iter::once("/usr/lib/manyhands/__main__.py").chain(line.split_whitespace());
        parse(words.map(Into::into), Ink::Colourless, Ink::Colourless)
    }

    fn complaint(line: &str) -> String {
        let answer = read(line).expect_err(line);
        assert_eq!((answer.status, answer.asked_for), (2, false), "{line}");
        answer.text
    }

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn demo_has_defaults() {
        let expected = DemoOptions { jobs: Job::ALL.to_vec(), ..DemoOptions::default() };
        assert_eq!(read("demo"), Ok(Request::Demo(expected)));
    }

    #[test]
    fn demo_takes_its_options() {
        let expected =
            DemoOptions { jobs: vec![Job::Fetch, Job::Parse], workers: Some(3), json: true, quick: true };
        assert_eq!(
            read("demo --jobs fetch,parse,fetch --workers 3 --json --quick"),
            Ok(Request::Demo(expected))
        );
    }

    #[test]
    fn top_takes_its_options() {
        let expected = TopOptions { interval: 1.0, ..TopOptions::default() };
        assert_eq!(read("top"), Ok(Request::Top(expected.clone())));
        let once = TopOptions { once: true, json: true, ..expected.clone() };
        assert_eq!(read("top --once --json"), Ok(Request::Top(once)));
        let slow = TopOptions { interval: 2.5, ..expected.clone() };
        assert_eq!(read("top --interval 2.5"), Ok(Request::Top(slow)));
        let cleaning = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            Ok(Request::Top(TopOptions { clean: Some(names), ..expected.clone() }))
        };
        assert_eq!(read("top --clean"), cleaning(&[]));
        assert_eq!(read("top --clean jobs till"), cleaning(&["jobs", "till"]));
    }

    #[test]
    fn serve_takes_its_options() {
        let Ok(Request::Serve(options)) = read("serve dinos:LookUp --bind [::1]:80 --workers process:4")
        else {
            panic!("not understood");
        };
        assert_eq!((options.target.as_str(), options.workers.as_str()), ("dinos:LookUp", "process:4"));
        assert_eq!(options.bind.as_deref(), Some("[::1]:80"));
        assert!(complaint("serve dinos:LookUp --workers fibre").contains("process:4"));
        assert!(complaint("serve dinos:LookUp --workers thread:0").contains("process:4"));
        assert!(complaint("serve dinos:LookUp --key file").contains("--certificate"));
        assert!(complaint("serve").contains("MODULE:HANDLER"));
    }

    #[test]
    fn help_and_version_are_answers_not_complaints() {
        for line in ["--help", "-h", "help", "demo --help", "help demo", "top --help", "--version", "-V"] {
            let answer = read(line).expect_err(line);
            assert_eq!((answer.status, answer.asked_for), (0, true), "{line}");
        }
        let version = read("--version").expect_err("a text");
        assert_eq!(version.text, format!("manyhands {}\n", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn usage_names_the_command_and_not_the_file_it_lives_in() {
        let help = read("demo --help").expect_err("a text").text;
        assert!(help.contains("Usage: manyhands demo [OPTIONS]"), "{help}");
        assert!(help.contains("in this order [default: all]"), "{help}");
        assert!(help.contains("130 when interrupted"), "{help}");
    }

    #[test]
    fn sentences_of_help_are_separate() {
        for line in ["--help", "-h", "demo --help", "demo -h", "top --help", "top -h"] {
            let help = read(line).expect_err(line).text;
            let paragraphs = help.split("\n\n").flat_map(|part| part.split("  "));
            for words in paragraphs.map(|part| part.split_whitespace().collect::<Vec<_>>()) {
                for pair in words.windows(2) {
                    let begins = pair[1].chars().nth(1).is_some_and(char::is_lowercase)
                        && pair[1].starts_with(char::is_uppercase)
                        && !["Python", "Python's"].contains(&pair[1]);
                    let ended = !pair[0].ends_with(char::is_alphanumeric);
                    assert!(ended || !begins, "{line}: {pair:?} in {help}");
                }
            }
        }
    }

    #[test]
    fn no_command_shows_the_help_as_a_complaint() {
        assert!(complaint("").contains("Usage: manyhands <COMMAND>"));
    }

    #[test]
    fn nonsense_is_named() {
        assert!(complaint("dance").contains("unrecognized subcommand 'dance'"));
        assert!(complaint("demo --jobs sing").contains("[possible values: parse, compress, fetch]"));
        assert!(complaint("demo --workers 0").contains("0 is not in 1..=256"));
        assert!(complaint("demo --workers many").contains("invalid value 'many'"));
        assert!(complaint("demo --jobs").contains("a value is required"));
        assert!(complaint("top --json").contains("--once"));
        assert!(complaint("top --clean --once").contains("cannot be used with"));
        assert!(complaint("top --interval 0").contains("must be from 0.1 to 3600"));
        assert!(complaint("top --interval soon").contains("not a number"));
        assert!(complaint("demo extra").contains("unexpected argument 'extra'"));
    }

    #[test]
    fn colours_belong_to_the_stream_they_are_for() {
        let help =
            |out, err| parse(["manyhands".into(), "--help".into()], out, err).expect_err("a text").text;
        assert!(help(Ink::Coloured, Ink::Colourless).contains("\x1b["));
        assert!(!help(Ink::Colourless, Ink::Coloured).contains("\x1b["));
    }
}
