//! One file for each command.

mod account;
mod backup;
mod contact;
mod devices;
mod enrol;
mod files;
mod find;
mod follow;
pub(crate) mod history;
mod members;
mod password;
mod report;
mod rooms;
mod rules;
mod send;
mod sign_out;
pub(crate) mod start;

use std::collections::BTreeSet;
use std::io::Write as _;

use clap::CommandFactory as _;
use entente_sdk::{Client, Event};

pub(crate) use self::files::own_name;

use crate::cli::{Cli, Command, Common};
use crate::device;
use crate::failure::{Failure, Result};
use crate::show;
use crate::show::message::{Reader, Saving};
use crate::show::output::Output;
use crate::talk;

/// Runs the command.
pub(crate) async fn run(cli: Cli, output: &Output) -> Result {
    let common = &cli.common;
    match cli.command {
        Command::Enrol(arguments) => enrol::run(common, &arguments, output).await,
        Command::Completions(arguments) => {
            let mut command = Cli::command();
            // The generator ends the program when it can't write, so it writes into memory.
            let mut script = Vec::new();
            clap_complete::generate(arguments.shell, &mut command, "chat", &mut script);
            Ok(std::io::stdout().lock().write_all(&script)?)
        }
        Command::Talk(arguments) => talk::run(common, &arguments, output).await,
        Command::Follow(arguments) => follow::run(common, &arguments, output).await,
        Command::History(arguments) => history::run(common, &arguments, output).await,
        Command::Rooms => rooms::run(common, output).await,
        Command::Message(arguments) => history::one(common, &arguments, output).await,
        Command::Find(arguments) => find::run(common, &arguments, output).await,
        Command::Start(arguments) => start::run(common, &arguments, output).await,
        Command::Send(arguments) => send::run(common, &arguments, output).await,
        Command::SendFile(arguments) => files::send(common, &arguments, output).await,
        Command::SaveFile(arguments) => files::save(common, &arguments, output).await,
        Command::Add(arguments) => members::add(common, &arguments, output).await,
        Command::Remove(arguments) => members::remove(common, &arguments, output).await,
        Command::Role(arguments) => members::role(common, &arguments, output).await,
        Command::Number(arguments) => members::number(common, &arguments, output).await,
        Command::Members(arguments) => members::list(common, &arguments, output).await,
        Command::Rename(arguments) => members::rename(common, &arguments, output).await,
        Command::Successor(arguments) => members::succeed(common, &arguments, output).await,
        Command::Leave(arguments) => members::leave(common, &arguments, output).await,
        Command::Report(arguments) => report::run(common, &arguments, output).await,
        Command::Contact(what) => contact::run(common, &what, output).await,
        Command::Account => account::account(common, output).await,
        Command::Devices(arguments) => devices::run(common, &arguments, output).await,
        Command::Confirm(who) => devices::confirm(common, &who.address, output).await,
        Command::Safety(who) => devices::safety(common, &who.address, output).await,
        Command::Backup(arguments) => backup::make(common, &arguments, output).await,
        Command::Restore(arguments) => backup::restore(common, &arguments, output).await,
        Command::Password(arguments) => password::run(common, &arguments, output).await,
        Command::Agree(arguments) => rules::agree(common, &arguments, output).await,
        Command::SignIn(arguments) => rules::sign_in(common, &arguments, output).await,
        Command::Rules(arguments) => rules::set(common, &arguments, output).await,
        Command::SignOut(arguments) => sign_out::run(common, &arguments, output).await,
    }
}

/// How this device's user sees messages.
pub(crate) fn reader(client: &Client, output: &Output) -> Reader {
    Reader {
        address: client.address(),
        clock: output.clock,
        paint: output.paint,
        saving: Saving::ByCommand,
    }
}

/// Runs `work` with an open session, and ends the session in order whatever came of it. What the session told of
/// people's devices and of what is missing is said at the end: no other command may ever say it again.
async fn with_session<T>(
    common: &Common,
    output: &Output,
    work: impl AsyncFnOnce(&Client) -> Result<T>,
) -> Result<T> {
    let client = device::open(common).await?;
    let mut events = client.events();
    let mut warnings = BTreeSet::new();
    let mut collect = |event: Event| {
        if matches!(
            event,
            Event::DevicesChanged { .. }
                | Event::AddressChanged { .. }
                | Event::DevicesRefused { .. }
                | Event::Held { .. }
                | Event::MessagesMissing { .. }
                | Event::RoomForked { .. }
        ) {
            warnings.extend(show::event::news(&event, output.clock));
        }
    };
    let outcome = {
        let work = async {
            device::connect(common, &client).await?;
            work(&client).await
        };
        tokio::pin!(work);
        loop {
            tokio::select! {
                outcome = &mut work => break outcome,
                Some(event) = events.next() => collect(event),
            }
        }
    };
    device::close(&client, output).await;
    while let Some(event) = events.try_next() {
        collect(event);
    }
    for warning in &warnings {
        output.warning(warning);
    }
    outcome
}

/// Waits for something that needs another homeserver's answer.
async fn in_time<T>(
    common: &Common,
    what: &str,
    work: impl Future<Output = std::result::Result<T, entente_sdk::Error>>,
) -> Result<T> {
    match tokio::time::timeout(device::timeout(common), work).await {
        Ok(outcome) => Ok(outcome?),
        Err(_) => Err(Failure::not_now(
            "no-answer",
            format!(
                "{what}: no answer within {} s. The other organisation's homeserver may be down; \
                 try again later.",
                common.timeout
            ),
        )),
    }
}
