//! Holds the policy of this homeserver to its model: `policy_matrices MATRICES SEED`. Prints one line of JSON; ends with 1
//! when a decision differs.

use std::process::ExitCode;

use homeserver::policy::matrices::check;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mut number = || arguments.next()?.parse::<u64>().ok();
    let (Some(matrices), Some(seed)) = (number(), number()) else {
        eprintln!("usage: policy_matrices MATRICES SEED");
        return ExitCode::from(2);
    };
    match check(matrices, seed) {
        Ok(decisions) => {
            println!(r#"{{"matrices":{matrices},"seed":{seed},"decisions":{decisions}}}"#);
            ExitCode::SUCCESS
        }
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}
