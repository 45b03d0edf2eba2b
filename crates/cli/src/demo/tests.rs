use super::{Advice, Job, Load, Moment, Run, Setting, closing, heading, job, progress};
use crate::ink::Ink;
use crate::page::Page;

const IDLE: Load = Load { others: 0.2, cpus: 2, is_busy: false };

fn narrow() -> Page {
    Page::new(80, Ink::Colourless)
}

fn wide() -> Page {
    Page::new(120, Ink::Colourless)
}

fn setting() -> Setting {
    Setting { python: "CPython 3.12.1".into(), cpus: 2, files: 500, bytes: 7_712_345 }
}

fn runs(seconds: [f64; 4]) -> Vec<Run> {
    let kinds = ["sequential", "thread", "process", "auto"];
    let run = |(kind, taken): (&str, f64)| Run {
        kind: kind.to_owned(),
        seconds: taken,
        speed_up: seconds[0] / taken,
    };
    kinds.into_iter().zip(seconds).map(run).collect()
}

fn parse() -> Job {
    Job {
        name: "parse".into(),
        description: "ast.parse: computes under the GIL".into(),
        tasks: 1000,
        runs: runs([2.4, 2.7, 1.3, 1.35]),
        best: "process".into(),
        choice: Some("process".into()),
        reason: "a task computes for 2.4 ms, and two threads together were no faster than one (0.96×)".into(),
        differences: Vec::new(),
    }
}

fn advice() -> Vec<Advice> {
    let given = [("parse", "process", 1.846), ("compress", "sequential", 1.0), ("fetch", "thread", 12.34)];
    given.map(|(job, kind, speed_up)| Advice { job: job.into(), kind: kind.into(), speed_up }).into()
}

#[track_caller]
fn assert_screen(lines: &[String], expected: &str) {
    let screen = lines.join("\n");
    assert_eq!(screen, expected.trim_end_matches('\n'), "\n{screen}\n");
}

#[test]
fn heading_names_the_machine_and_the_input() {
    let expected = "manyhands demo  CPython 3.12.1 · 2 CPUs · 500 files of its library, 7.7 MB";
    assert_screen(&heading(&setting(), narrow()), expected);
    let single = Setting { cpus: 1, ..setting() };
    assert!(heading(&single, narrow())[0].contains("· 1 CPU ·"));
}

#[test]
fn job_at_80_columns() {
    assert_screen(
        &job(&parse(), narrow()),
        r"
parse     ast.parse: computes under the GIL · 1000 tasks          time  speed-up
  sequential  ████████████████████████████████████████▉         2.40 s     1.00×
  thread      ██████████████████████████████████████████████    2.70 s     0.89×
  process     ██████████████████████▏                           1.30 s     1.85×
  auto        ███████████████████████                           1.35 s     1.78×
  auto → process: a task computes for 2.4 ms, and two threads together were no
                  faster than one (0.96×)
",
    );
}

#[test]
fn job_at_120_columns() {
    assert_screen(
        &job(&parse(), wide()),
        r"
parse     ast.parse: computes under the GIL · 1000 tasks                              time  speed-up
  sequential  ██████████████████████████████████████████████████████████▋           2.40 s     1.00×
  thread      ██████████████████████████████████████████████████████████████████    2.70 s     0.89×
  process     ███████████████████████████████▊                                      1.30 s     1.85×
  auto        █████████████████████████████████                                     1.35 s     1.78×
  auto → process: a task computes for 2.4 ms, and two threads together were no faster than one
                  (0.96×)
",
    );
}

#[test]
fn a_job_that_auto_was_not_asked_about() {
    let mut runs = runs([3.61, 0.27, 0.3, 0.25]);
    runs[3].kind = "coroutine".into();
    let job = Job {
        name: "serve".into(),
        description: "look-ups for clients 5 ms away".into(),
        tasks: 640,
        runs,
        best: "thread".into(),
        choice: None,
        reason: "a second: sequential 177, thread 2370, process 2133, coroutine 2560".into(),
        differences: Vec::new(),
    };
    assert_screen(
        &super::job(&job, narrow()),
        r"
serve     look-ups for clients 5 ms away · 640 tasks              time  speed-up
  sequential  ██████████████████████████████████████████████    3.61 s     1.00×
  thread      ███▌                                              0.27 s     13.4×
  process     ███▉                                              0.30 s     12.0×
  coroutine   ███▏                                              0.25 s     14.4×
  a second: sequential 177, thread 2370, process 2133, coroutine 2560
",
    );
}

#[test]
fn rows_end_where_the_page_ends() {
    for columns in [44, 50, 60, 71, 80, 99, 100, 300] {
        let page = Page::new(columns, Ink::Colourless);
        let mut lines = job(&parse(), page);
        let rows = lines.iter().filter(|line| line.ends_with('×') && line.contains('█'));
        assert_eq!(rows.clone().count(), 4, "{lines:#?}");
        for row in rows {
            assert_eq!(row.chars().count(), page.columns(), "{row}");
        }
        lines.extend(heading(&setting(), page));
        lines.extend(closing(&advice(), IDLE, false, 18.53, page));
        assert!(lines.iter().all(|line| line.chars().count() <= page.columns()), "{lines:#?}");
    }
}

#[test]
fn a_run_that_took_no_time_is_still_a_row() {
    let idle = Job { runs: runs([0.0; 4]), ..parse() };
    let lines = job(&idle, narrow());
    assert!(lines[2].starts_with("  sequential  "), "{lines:#?}");
    assert!(lines[2].contains("0.00 s"), "{lines:#?}");
}

#[test]
fn differences_stand_below_their_job() {
    let wrong = Job { differences: vec!["thread, task 7: 1 instead of 2".into()], ..parse() };
    let lines = job(&wrong, narrow());
    assert_eq!(lines.last().map(String::as_str), Some("  different: thread, task 7: 1 instead of 2"));
}

#[test]
fn colours_mark_the_best_row_and_nothing_else_loudly() {
    let lines = job(&parse(), Page::new(80, Ink::Coloured));
    let green: Vec<bool> = lines.iter().map(|line| line.contains("\x1b[32m")).collect();
    assert_eq!(green[..6], [false, false, false, false, true, false]);
    assert!(lines[1].starts_with("\x1b[1mparse\x1b[0m"), "{}", lines[1]);
    assert!(!lines.concat().contains("\x1b[1;31m"));
}

#[test]
fn colours_do_not_move_anything() {
    let strip = |line: &String| {
        let mut plain = String::new();
        for (part, text) in line.split('\x1b').enumerate() {
            plain += if part == 0 { text } else { text.split_once('m').expect("an escape ends").1 };
        }
        plain
    };
    let coloured: Vec<String> = job(&parse(), Page::new(80, Ink::Coloured)).iter().map(strip).collect();
    assert_eq!(coloured, job(&parse(), narrow()));
}

#[test]
fn closing_says_which_kind_for_which_job() {
    assert_screen(
        &closing(&advice(), IDLE, true, 18.53, narrow()),
        r"
Best here  process for parse (1.85×) · no workers for compress ·
           thread for fetch (12.3×)
           All results are equal. 18.5 s in total.
",
    );
}

#[test]
fn closing_says_when_the_machine_is_busy() {
    let busy = Load { others: 7.96, cpus: 2, is_busy: true };
    assert_screen(
        &closing(&advice()[..1], busy, true, 18.53, narrow()),
        r"
Best here  process for parse (1.85×)
           The machine is busy: 8.0 threads of other programs competed for its 2
           CPUs. Times vary; only large differences count. Run it again when it
           is idle.
           All results are equal. 18.5 s in total.
",
    );
    let single = Load { cpus: 1, ..busy };
    assert!(closing(&advice(), single, true, 1.0, wide()).concat().contains("competed for its CPU."));
}

#[test]
fn closing_says_when_results_differ() {
    let lines = closing(&advice(), IDLE, false, 18.53, narrow());
    assert!(lines.concat().contains("Results differ"));
    assert!(!lines.concat().contains("equal"));
}

#[test]
fn progress_keeps_its_places() {
    let moment = Moment { job: "compress", kind: "sequential", share: 0.375, run: 5, runs: 12 };
    let expected = "compress · sequential █████████▊                  37 %  run 5 of 12";
    assert_eq!(progress(&moment, narrow()), expected);
    let line = |share| progress(&Moment { share, ..moment }, narrow()).chars().count();
    assert_eq!([line(0.0), line(1.0), line(17.0)], [line(0.375); 3]);
}

#[test]
fn no_terminal_breaks_the_line_of_progress() {
    for columns in [1, 20, 30, 44, 50, 60, 61, 70, 80, 200] {
        let page = Page::new(columns, Ink::Colourless);
        for (job, kind) in [("compress", "sequential"), ("fetch", "auto")] {
            let line = progress(&Moment { job, kind, share: 1.0, run: 12, runs: 12 }, page);
            assert!(line.chars().count() < columns.max(2), "{columns}: {line}");
            assert_eq!(line.contains("100 %"), columns >= 29, "{columns}: {line}");
            assert_eq!(line.contains("run 12 of 12"), columns >= 52, "{columns}: {line}");
        }
    }
}
