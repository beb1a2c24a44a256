//! Property test: whatever happens to a log, in any order, while it is read and while it is not, every line
//! arrives once, in the order in which it was written.

use proptest::prelude::*;

use super::*;

/// How a log is rotated. A log is always rotated in the same way, as by one program.
#[derive(Clone, Copy, Debug)]
enum Way {
    RenameToDate,
    RenameToNumber,
    CopyToDate,
    CopyToNumber,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// So many lines at once.
    Append(usize),
    /// A line that is completed by the next step that writes.
    AppendHalf,
    Rotate,
    /// Lets the source read all there is.
    Settle,
    Restart,
    /// Stops the source; the next `Restart` or the end starts it.
    Stop,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..40_usize).prop_map(Step::Append),
        2 => Just(Step::AppendHalf),
        3 => Just(Step::Rotate),
        2 => Just(Step::Settle),
        1 => Just(Step::Restart),
        1 => Just(Step::Stop),
    ];
    proptest::collection::vec(step, 1..40)
}

fn ways() -> impl Strategy<Value = Way> {
    prop_oneof![
        Just(Way::RenameToDate),
        Just(Way::RenameToNumber),
        Just(Way::CopyToDate),
        Just(Way::CopyToNumber),
    ]
}

/// The program that writes the log, and the expectation.
struct World {
    _folder: tempfile::TempDir,
    path: PathBuf,
    way: Way,
    written: usize,
    half: Option<String>,
    rotations: usize,
    tail: Option<Tail>,
    read: Vec<String>,
}

/// Lines as ranges of consecutive numbers, so that a failure is readable.
fn runs(lines: &[String]) -> Vec<(String, usize)> {
    let mut runs: Vec<(String, usize)> = Vec::new();
    let mut next = None;
    for line in lines {
        let number = line
            .get(8..14)
            .and_then(|number| number.parse::<usize>().ok());
        let is_whole = number.is_some_and(|number| numbered(number..number + 1) == [line.as_str()]);
        if is_whole && number == next {
            runs.last_mut().unwrap().1 += 1;
        } else {
            runs.push((line.clone(), 1));
        }
        next = number.filter(|_| is_whole).map(|number| number + 1);
    }
    runs
}

impl World {
    fn new(way: Way) -> Self {
        let (folder, path) = log();
        write(&path, "");
        let mut tail = Tail::of(&path);
        // Backups from before the first scan are not part of the expectation.
        tail.until_state(&SourceState::Reading);
        Self {
            _folder: folder,
            path,
            way,
            written: 0,
            half: None,
            rotations: 0,
            tail: Some(tail),
            read: Vec::new(),
        }
    }

    fn expected(&self) -> usize {
        self.written - usize::from(self.half.is_some())
    }

    fn finish_half(&mut self) {
        if let Some(half) = self.half.take() {
            append(&self.path, &half);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append(count) => {
                self.finish_half();
                append(&self.path, &text(self.written..self.written + count));
                self.written += count;
            }
            Step::AppendHalf => {
                self.finish_half();
                let line = text(self.written..self.written + 1);
                let (first, second) = line.split_at(20);
                append(&self.path, first);
                self.half = Some(second.to_owned());
                self.written += 1;
            }
            Step::Rotate => {
                self.finish_half();
                self.rotate();
            }
            Step::Settle => self.settle(),
            Step::Restart => {
                self.stop();
                self.start();
            }
            Step::Stop => self.stop(),
        }
    }

    fn rotate(&mut self) {
        self.rotations += 1;
        let numbered = |number: usize| self.path.with_file_name(format!("a.log.{number}"));
        let backup = match self.way {
            Way::RenameToDate | Way::CopyToDate => {
                let name = format!("a-2026-02-24T08-43-39.{:03}.log", self.rotations);
                self.path.with_file_name(name)
            }
            Way::RenameToNumber | Way::CopyToNumber => {
                for number in (1..self.rotations).rev() {
                    fs::rename(numbered(number), numbered(number + 1)).unwrap();
                }
                numbered(1)
            }
        };
        match self.way {
            Way::RenameToDate | Way::RenameToNumber => {
                fs::rename(&self.path, backup).unwrap();
                write(&self.path, "");
            }
            Way::CopyToDate | Way::CopyToNumber => {
                fs::copy(&self.path, backup).unwrap();
                write(&self.path, "");
            }
        }
    }

    fn settle(&mut self) {
        let missing = self.expected() - self.read.len();
        if let Some(tail) = &mut self.tail {
            tail.until(&format!("{missing} lines"), |tail| {
                tail.lines.len() >= missing
            });
        }
    }

    fn start(&mut self) {
        if self.tail.is_none() {
            self.tail = Some(Tail::of(&self.path));
        }
    }

    fn stop(&mut self) {
        if let Some(tail) = self.tail.take() {
            self.read.extend(tail.stop());
        }
    }

    fn end(mut self) -> (Vec<String>, usize) {
        self.finish_half();
        self.start();
        self.settle();
        self.stop();
        // A last start must find nothing.
        self.start();
        if let Some(tail) = &mut self.tail {
            tail.until_state(&SourceState::Reading);
        }
        self.stop();
        (self.read, self.written)
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").map_or(64, |cases| cases.parse().unwrap()),
        failure_persistence: None,
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_line_arrives_once_and_in_order(way in ways(), steps in steps()) {
        let mut world = World::new(way);
        for step in steps {
            world.step(step);
        }
        let (mut read, written) = world.end();
        if matches!(way, Way::CopyToDate | Way::CopyToNumber) {
            // A file that is filled, copied and truncated between two polls is visible only in its copy,
            // which may be found after the first lines that followed.
            read.sort();
        }
        prop_assert_eq!(runs(&read), runs(&numbered(0..written)));
    }
}
