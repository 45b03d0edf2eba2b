//! A client that is many: it sends requests over a number of connections, each as soon as the one before is answered, and
//! reports how many were answered in how long.
//!
//! It makes no request while it reports, and knows nothing of what a request means: an answer is so many bytes, or all there
//! are until the server closes the connection.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use manyhands_os::clock::{self, Deadline};
use manyhands_os::poll::{Interest, Poller};
use manyhands_os::stream::{self, Address};

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the server listens.
    pub address: Address,
    /// How many connections at a time.
    pub connections: usize,
    /// What to send.
    pub request: Vec<u8>,
    /// How many bytes an answer has; `None`: all until the server closes the connection.
    pub answer: Option<usize>,
    /// Whether each request has a connection of its own.
    pub reconnect: bool,
    /// For how long, in nanoseconds.
    pub length: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How long it took, in nanoseconds.
    pub took: u64,
    /// How long each answered request took, in nanoseconds, in the order of their answers.
    pub waits: Vec<u64>,
    /// How many were answered on each connection, for connections that are kept.
    pub shares: Vec<u64>,
    /// What went wrong, and how often.
    pub failures: BTreeMap<String, u64>,
}

/// One connection.
struct Line {
    fd: OwnedFd,
    /// What has been sent of the request.
    sent: usize,
    /// What has come of the answer.
    received: usize,
    began: Deadline,
    answered: u64,
}

struct Load<'a> {
    plan: &'a Plan,
    poller: Poller,
    lines: Vec<Option<Line>>,
    report: Report,
    buffer: Vec<u8>,
    end: Deadline,
}

/// What a connection is up to after something has happened on it.
enum Next {
    /// It waits for more of the answer.
    Wait,
    /// The answer is complete, and the connection can be used again unless it is closed.
    Answered { closed: bool },
}

/// Puts a server under load.
///
/// # Errors
/// When descriptors run out here. What goes wrong with a request is in the report.
pub fn run(plan: &Plan) -> io::Result<Report> {
    let began = clock::now();
    let mut load = Load {
        plan,
        poller: Poller::new()?,
        lines: Vec::new(),
        report: Report::default(),
        buffer: vec![0; 64 << 10],
        end: began + plan.length,
    };
    load.lines.resize_with(plan.connections, || None);
    for index in 0..plan.connections {
        load.connect(index)?;
    }
    load.drive()?;
    load.report.took = clock::now() - began;
    load.report.shares = load.lines.iter().flatten().map(|line| line.answered).collect();
    Ok(load.report)
}

impl Load<'_> {
    fn drive(&mut self) -> io::Result<()> {
        loop {
            let now = clock::now();
            let open = self.lines.iter().flatten().count();
            if open == 0 || now >= self.end {
                return Ok(());
            }
            for (key, _) in self.poller.wait(Some(self.end))? {
                #[expect(clippy::cast_possible_truncation, reason = "it was a usize")]
                self.look(key as usize)?;
            }
        }
    }

    /// Opens a connection, unless it is time to end.
    fn connect(&mut self, index: usize) -> io::Result<()> {
        self.lines[index] = None;
        if clock::now() >= self.end {
            return Ok(());
        }
        let fd = match stream::connect(&self.plan.address) {
            Ok(fd) => fd,
            Err(error) if error.raw_os_error().is_some_and(manyhands_os::process::lacks_descriptors) => {
                return Err(error);
            }
            Err(error) => {
                self.fail(&error);
                return Ok(());
            }
        };
        if self.plan.reconnect {
            stream::reset_on_close(&fd)?;
        }
        self.poller.add(&fd, index as u64, Interest::Both)?;
        self.lines[index] = Some(Line { fd, sent: 0, received: 0, began: clock::now(), answered: 0 });
        Ok(())
    }

    fn fail(&mut self, error: &io::Error) {
        *self.report.failures.entry(error.to_string()).or_default() += 1;
    }

    /// Something has happened on a connection.
    fn look(&mut self, index: usize) -> io::Result<()> {
        let Some(mut line) = self.lines[index].take() else { return Ok(()) };
        match self.advance(&mut line, index) {
            Ok(Next::Wait) => self.lines[index] = Some(line),
            Ok(Next::Answered { closed }) => {
                let now = clock::now();
                self.report.waits.push(now - line.began);
                line.answered += 1;
                if closed || self.plan.reconnect {
                    drop(line);
                    return self.connect(index);
                }
                line.sent = 0;
                line.received = 0;
                line.began = now;
                self.send(&mut line, index)?;
                self.lines[index] = Some(line);
            }
            Err(error) => {
                self.fail(&error);
                drop(line);
                self.connect(index)?;
            }
        }
        Ok(())
    }

    /// Sends what there is room for.
    fn send(&self, line: &mut Line, index: usize) -> io::Result<()> {
        let request = &self.plan.request;
        while line.sent < request.len() {
            match stream::send(&line.fd, &request[line.sent..], 0) {
                Ok(sent) => line.sent += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.poller.modify(line.fd.as_fd(), index as u64, Interest::Both);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Goes on with a request.
    fn advance(&mut self, line: &mut Line, index: usize) -> io::Result<Next> {
        if line.sent < self.plan.request.len() {
            if line.sent == 0 && line.answered == 0 {
                stream::connected(&line.fd)?;
            }
            self.send(line, index)?;
            if line.sent < self.plan.request.len() {
                return Ok(Next::Wait);
            }
            self.poller.modify(line.fd.as_fd(), index as u64, Interest::Readable)?;
        }
        loop {
            match stream::receive(&line.fd, &mut self.buffer, 0) {
                Ok(0) => {
                    let whole = self.plan.answer.is_none_or(|length| line.received >= length);
                    return match whole {
                        true => Ok(Next::Answered { closed: true }),
                        false => Err(io::ErrorKind::UnexpectedEof.into()),
                    };
                }
                Ok(received) => {
                    line.received += received;
                    if self.plan.answer.is_some_and(|length| line.received >= length) {
                        return Ok(Next::Answered { closed: false });
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Next::Wait),
                Err(error) => return Err(error),
            }
        }
    }
}
