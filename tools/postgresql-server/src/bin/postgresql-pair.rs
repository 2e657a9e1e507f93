//! A primary and its standby as a process, steered line by line through its standard input, ended with it: what the trial of
//! several homeservers over one database does its worst to.
//!
//! The first line of output is `ready PORT PORT FILE`: the primary's port, the standby's, and the file of the root certificate
//! of both. Then each line of input is answered with `ok`, or with `failed` and the reason.
//!
//! | line | what it does |
//! |---|---|
//! | `wait` | each commit is confirmed when the standby has it |
//! | `cut` | the standby gets nothing more |
//! | `kill` | SIGKILL to all processes of the primary |
//! | `promote` | the standby takes the primary's place |

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
        let done = match line.trim() {
            "wait" => primary.wait_for_standby(),
            "cut" => standby.stop_following(),
            "kill" => primary.kill(),
            "promote" => standby.promote(),
            _ => Err(Error::Failed {
                program: "postgresql-pair".to_owned(),
                said: "wait, cut, kill or promote".to_owned(),
            }),
        };
        match done {
            Ok(()) => say("ok"),
            Err(error) => say(&format!("failed {}", one_line(&error))),
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

fn one_line(error: &Error) -> String {
    error.to_string().replace('\n', " ")
}
