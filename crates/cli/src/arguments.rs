//! The command line of `manyhands`: commands, options, their help texts and their errors.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{Parser, Subcommand, ValueEnum};

use crate::broker_arguments::{DeadOptions, DoctorOptions};
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
    /// Each job runs sequentially, on threads, on processes and with workers="auto". A fourth, serve,
    /// is a server itself: with one worker, with threads, processes, coroutines and greenlets. Shows
    /// the times, checks that all results are equal, and says what "auto" chose and why. Takes about 20
    /// seconds.
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
    /// Under systemd it says when it is ready, and serves the socket that it is given. With --wsgi
    /// or --asgi it serves a web application, by waitress or uvicorn in processes of its own.
    #[command(after_help = "\
Exit status: 0 when it was told to end, 1 when it cannot serve, 2 for invalid arguments.")]
    Serve(Box<ServeOptions>),

    /// Run the tasks of a module that messages on RabbitMQ ask for, in Celery's protocol
    ///
    /// The tasks are functions with @manyhands.task in a module that is found in the working directory
    /// or installed. SIGTERM and Ctrl-C let what runs finish and hand back the rest; a second one, or
    /// SIGQUIT, hands back what runs, too. Under systemd it says when it consumes. An URL among the
    /// arguments can be seen by everybody on this machine: put it into `AMQP_URL` or a file.
    #[command(after_help = "\
Exit status: 0 when it was told to end, 1 when it cannot work, 2 for invalid arguments.")]
    Worker(Box<WorkerOptions>),

    /// Look at a broker: what it is, and whether queues are as programs want to have them
    ///
    /// Says of each queue how many messages wait in it and how many consumers it has, and whether a program that
    /// declares it as Celery does by default would be refused, with the difference. An URL among the arguments can be
    /// seen by everybody on this machine: put it into `AMQP_URL` or a file.
    #[command(after_help = "\
Exit status: 0 when nothing is wrong, 1 when something is, 2 for invalid arguments.")]
    Doctor(DoctorOptions),

    /// Inspect, replay or drop the dead letters of a queue
    ///
    /// Dead letters are messages over which processes have died, or that nobody can read; workers
    /// of manyhands put them into QUEUE.dead. What is inspected stays there.
    #[command(after_help = "\
Exit status: 0, even when there are none; 1 when a letter stays that should not, 2 for invalid arguments.")]
    Dead(Box<DeadOptions>),
}

/// Options of `manyhands worker`.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct WorkerOptions {
    /// The module with the tasks, such as shop or shop.tasks
    #[arg(value_name = "MODULE")]
    pub module: String,

    /// The queues to consume from
    #[arg(long, value_name = "QUEUE,…", default_value = "celery")]
    pub queues: String,

    /// The kind of workers, and how many tasks run at a time: process:4, thread:16, coroutine:100
    /// [default: process, as many as there are CPUs]
    #[arg(long, value_name = "KIND[:N]", value_parser = task_workers)]
    pub workers: Option<String>,

    /// The broker, such as amqps://user:password@host/vhost [default: $AMQP_URL,
    /// or this machine's: that of --dev while it runs]
    #[arg(long, value_name = "URL")]
    pub broker: Option<String>,

    /// A file that has the broker's URL
    #[arg(long, value_name = "FILE", conflicts_with = "broker")]
    pub broker_file: Option<String>,

    /// Start a RabbitMQ for this user's programs, from the installed server
    #[arg(long, conflicts_with_all = ["broker", "broker_file"])]
    pub dev: bool,

    /// How many more times a task is run over which a process has died; then it is a dead letter
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub max_retries: u32,

    /// Take pickled arguments: whoever can send a message can then run anything
    #[arg(long)]
    pub pickle: bool,

    /// Seconds that what runs has to finish when the worker ends [default: as long as it takes]
    #[arg(long, value_name = "SECONDS")]
    pub grace: Option<f64>,

    /// Where to answer what has been counted, over HTTP: HOST:PORT, PORT, unix:PATH, fd:N
    #[arg(long, value_name = "ADDRESS")]
    pub metrics: Option<String>,

    /// Its name to those who control workers and watch them, %h for the host's [default: mh-PID@%h]
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,

    /// Tell what becomes of its tasks, as celery events and Flower want to know
    #[arg(short = 'E', long)]
    pub events: bool,
}

/// Options of `manyhands serve`.
#[derive(Clone, Debug, PartialEq, clap::Args)]
pub struct ServeOptions {
    /// The handler, such as dinos:LookUp for LookUp in dinos.py; with --wsgi or --asgi the application
    #[arg(value_name = "MODULE:HANDLER")]
    pub target: String,

    /// Serve a WSGI application over HTTP, with waitress
    #[arg(long, conflicts_with = "asgi")]
    pub wsgi: bool,

    /// Serve an ASGI application over HTTP, with uvicorn
    #[arg(long)]
    pub asgi: bool,

    /// Where to listen: HOST:PORT, :PORT for all addresses, unix:PATH, or fd:N for an inherited socket;
    /// udp:HOST:PORT or udp:unix:PATH for datagrams [default: 127.0.0.1:9000, or what systemd hands over]
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<String>,

    /// The kind of workers, and how many: thread:64, process:4, coroutine, greenlet; event loops, in
    /// the last two [default: thread, coroutine for a handler that is async def, process:1 for
    /// applications]
    #[arg(long, value_name = "KIND[:N]", value_parser = workers)]
    pub workers: Option<String>,

    /// Have the handler called with each message; how these are told from each other
    #[arg(long, value_name = "lines|u32|raw", value_parser = ["lines", "u32", "raw"], conflicts_with_all = ["wsgi", "asgi"])]
    pub framing: Option<String>,

    /// How many bytes a message, or a line that a coroutine reads, may have [default: 65536]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..), conflicts_with_all = ["wsgi", "asgi"])]
    pub limit: Option<u32>,

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

    /// Seconds within which a new process must be ready [default: 60]
    #[arg(long, value_name = "SECONDS")]
    pub start_timeout: Option<f64>,

    /// Where to answer what has been counted, over HTTP: HOST:PORT, PORT, unix:PATH, fd:N
    #[arg(long, value_name = "ADDRESS")]
    pub metrics: Option<String>,

    /// Seconds after which a connection is ended [default: never]
    #[arg(long, value_name = "SECONDS")]
    pub connection_timeout: Option<f64>,

    /// Seconds that a client may say nothing after it has connected [default: any]
    #[arg(long, value_name = "SECONDS")]
    pub first_byte_timeout: Option<f64>,

    /// The proxies whose PROXY headers say who the client is, such as 10.0.0.0/8,unix or * for all;
    /// connections of others are closed
    #[arg(long, value_name = "PEERS")]
    pub proxy_protocol: Option<String>,

    /// For TLS: the file with the certificate, and maybe its key
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<String>,

    /// The file with the certificate's key
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub key: Option<String>,
}

impl ServeOptions {
    /// The interface of a web application; none for a handler.
    #[must_use]
    pub fn interface(&self) -> Option<&'static str> {
        if self.wsgi { Some("wsgi") } else { self.asgi.then_some("asgi") }
    }
}

/// Reads a kind of worker, and how many of it.
fn workers(text: &str) -> Result<String, String> {
    let (kind, number) = text.split_once(':').unwrap_or((text, "1"));
    let is_kind = matches!(kind, "thread" | "process" | "coroutine" | "greenlet");
    let right = is_kind && number.parse::<u16>().is_ok_and(|number| number > 0);
    right
        .then(|| text.to_owned())
        .ok_or_else(|| "must be like thread:64, process:4, coroutine or greenlet".to_owned())
}

/// Reads a kind of worker that runs tasks, and how many of it.
fn task_workers(text: &str) -> Result<String, String> {
    let (kind, number) = text.split_once(':').unwrap_or((text, "1"));
    let is_kind = matches!(kind, "process" | "thread" | "coroutine");
    let right = is_kind && number.parse::<u16>().is_ok_and(|number| number > 0);
    right
        .then(|| text.to_owned())
        .ok_or_else(|| "must be like process:4, thread:16 or coroutine:100".to_owned())
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
    /// look-ups for many clients, each 5 ms away: waits for them
    Serve,
}

impl Job {
    /// Every job, in the order in which they run.
    pub const ALL: [Self; 4] = [Self::Parse, Self::Compress, Self::Fetch, Self::Serve];

    /// The job's name, as it is typed and shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::Compress => "compress",
            Self::Fetch => "fetch",
            Self::Serve => "serve",
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
        Ok(Arguments { request }) => return Ok(request),
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
    fn worker_takes_its_options() {
        let Ok(Request::Worker(options)) = read("worker shop.tasks --queues a,b --workers coroutine:100")
        else {
            panic!("not understood");
        };
        assert_eq!((options.module.as_str(), options.queues.as_str()), ("shop.tasks", "a,b"));
        assert_eq!((options.workers.as_deref(), options.max_retries), (Some("coroutine:100"), 2));
        let Ok(Request::Worker(options)) = read("worker shop -E --hostname w1@%h") else {
            panic!("not understood");
        };
        assert_eq!((options.events, options.hostname.as_deref()), (true, Some("w1@%h")));
        assert!(complaint("worker shop --workers greenlet:4").contains("process:4"));
        assert!(complaint("worker shop --workers process:0").contains("process:4"));
        assert!(complaint("worker shop --dev --broker amqp://host").contains("cannot be used with"));
    }

    #[test]
    fn serve_takes_its_options() {
        let Ok(Request::Serve(options)) = read("serve dinos:LookUp --bind [::1]:80 --workers process:4")
        else {
            panic!("not understood");
        };
        assert_eq!(
            (options.target.as_str(), options.workers.as_deref()),
            ("dinos:LookUp", Some("process:4"))
        );
        assert_eq!(options.bind.as_deref(), Some("[::1]:80"));
        assert_eq!(options.interface(), None);
        for (line, interface) in [("serve --wsgi dinos:app", "wsgi"), ("serve dinos:app --asgi", "asgi")] {
            let Ok(Request::Serve(options)) = read(line) else { panic!("not understood: {line}") };
            assert_eq!((options.interface(), options.workers), (Some(interface), None));
        }
        assert!(complaint("serve --wsgi --asgi dinos:app").contains("cannot be used with"));
        assert!(complaint("serve dinos:LookUp --workers fibre").contains("process:4"));
        assert!(complaint("serve dinos:LookUp --workers thread:0").contains("process:4"));
        let Ok(Request::Serve(options)) =
            read("serve dinos:look_up --workers coroutine --framing lines --limit 99")
        else {
            panic!("that is right");
        };
        assert_eq!((options.framing.as_deref(), options.limit), (Some("lines"), Some(99)));
        assert!(complaint("serve dinos:look_up --framing json").contains("lines, u32, raw"));
        assert!(complaint("serve --wsgi dinos:app --framing raw").contains("cannot be used with"));
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
                        && !["Python", "Python's", "RabbitMQ", "Celery's"].contains(&pair[1]);
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
        assert!(complaint("demo --jobs sing").contains("[possible values: parse, compress, fetch, serve]"));
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
