//! A primary and its standby as a process, steered line by line through its standard input, ended with it: what the trial of
//! several homeservers over one database does its worst to.
//!
//! The first line of output is `ready PORT PORT FILE`: the primary's port, the standby's, and the file of the root certificate
//! of both. Then each line of input is answered with `ok` and what was asked for, or with `failed` and the reason.
//!
//! | line | what it does |
//! |---|---|
//! | `wait` | each commit is confirmed when the standby has it |
//! | `cut` | the standby gets nothing more |
//! | `kill` | SIGKILL to all processes of the primary |
//! | `promote` | the standby takes the primary's place |
//! | `ask STATEMENT` | what the primary answers, in one line |

use std::io::{BufRead as _, Write as _};
use std::process::ExitCode;

use postgresql_server::{Error, Server};

/// The database that it makes, which the role of the tests owns.
const DATABASE: &str = "entente";
/// A server that is killed leaves nothing in a folder that all share.
const LINES: [&str; 1] = ["dynamic_shared_memory_type = mmap"];

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("postgresql-pair: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> Result<(), Error> {
    let primary = Server::start_with(&LINES)?;
    primary.create_database(DATABASE)?;
    let standby = primary.standby(&LINES)?;
    say(&format!(
        "ready {} {} {}",
        primary.port(),
        standby.port(),
        standby.root_certificate().display()
    ));
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let nothing = |()| String::new();
        let done = match line.trim().split_once(' ') {
            Some(("ask", statement)) => primary.query(DATABASE, statement),
            None if line == "wait" => primary.wait_for_standby().map(nothing),
            None if line == "cut" => standby.stop_following().map(nothing),
            None if line == "kill" => primary.kill().map(nothing),
            None if line == "promote" => standby.promote().map(nothing),
            _ => Err(Error::Failed {
                program: "postgresql-pair".to_owned(),
                said: "wait, cut, kill, promote or ask".to_owned(),
            }),
        };
        match done {
            Ok(answer) => say(one_line(&format!("ok {answer}")).trim_end()),
            Err(error) => say(&one_line(&format!("failed {error}"))),
        }
    }
    Ok(())
}

/// Whoever closed the other end wants no answer.
fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    let _ = writeln!(output, "{line}");
    let _ = output.flush();
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}
