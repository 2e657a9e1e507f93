//! The proxy as a program, steered through its standard input.
//!
//! One command a line: `out FAULT`, `back FAULT`, `both FAULT`, where `out` is the direction from whoever connects to
//! the target and FAULT is what [`Fault`] reads; `cut` ends every open connection. It prints
//! `listening ADDRESS` once and `ok` after each command, so that whoever steers it knows when it holds. It ends
//! with its input.
//!
//! Exit status: 0 its input has ended, 1 it could not go on, 2 wrong usage.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use faultproxy::{Direction, Fault, FaultError, Proxy};
use tokio::sync::mpsc;

/// Passes TCP connections on and spoils them on command.
#[derive(Parser)]
#[command(name = "faultproxy", version)]
struct Cli {
    /// Where to listen; port 0 chooses one.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where every connection goes.
    #[arg(long, value_name = "HOST:PORT")]
    to: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Fault(#[from] FaultError),
    #[error("`{0}` is no command: say out FAULT, back FAULT, both FAULT or cut")]
    Command(String),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(run(&cli)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: &Cli) -> Result<(), Failure> {
    let proxy = Proxy::start(cli.listen, cli.to).await?;
    say(&format!("listening {}", proxy.address()))?;
    let (commands, mut waiting) = mpsc::unbounded_channel();
    // Reading standard input blocks, and the proxy must go on.
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            if commands.send(line).is_err() {
                return;
            }
        }
    });
    while let Some(line) = waiting.recv().await {
        obey(&proxy, line?.trim())?;
        say("ok")?;
    }
    Ok(())
}

fn obey(proxy: &Proxy, command: &str) -> Result<(), Failure> {
    if command == "cut" {
        proxy.cut();
        return Ok(());
    }
    let (word, fault) = command.split_once(' ').unwrap_or((command, ""));
    let directions: &[Direction] = match word {
        "out" => &[Direction::Out],
        "back" => &[Direction::Back],
        "both" => &[Direction::Out, Direction::Back],
        _ => return Err(Failure::Command(command.to_owned())),
    };
    let fault: Fault = fault.parse()?;
    for direction in directions {
        proxy.set(*direction, fault);
    }
    Ok(())
}

fn say(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    Ok(())
}
