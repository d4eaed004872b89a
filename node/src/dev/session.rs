//! One run: the fleet starts, the cluster forms, the city is played, the figures are taken, the fleet stops.
//!
//! Whatever it waits for, it waits in [`Session::drive`], so that the user is told of the processes in every phase.
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context;
use kvarter_simulator::{PlayReport, PlayStatus, Profile};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};

use super::console::Console;
use super::figures::{ClusterFigures, LOOK_INTERVAL, Observer};
use super::fleet::{Fleet, ProcessChange};
use super::formation;
use super::home::Home;
use super::interrupt::Interrupts;
use super::play::{Play, PreparedPlay};
use super::status::{Rate, Status};
use super::summary::Summary;

pub(super) struct Session {
    home: Home,
    interrupts: Interrupts,
    ending: Ending,
    fleet: Fleet,
    console: Console,
    started: Instant,
    ticks: Interval,
    rate: Rate,
    /// What is played; empty before.
    scene: String,
    cluster: watch::Sender<ClusterFigures>,
    play: watch::Sender<PlayStatus>,
    /// Looks at the cluster, once there is one.
    observers: JoinSet<()>,
    /// Processes that died, did not start, or did not stop in order.
    failures: u64,
    /// The user knows that the first Ctrl-C was heard.
    is_stopping: bool,
}

/// When a run ends without being interrupted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    /// After so much time of playing.
    pub(super) play_time: Option<Duration>,
    /// When a replay is over.
    pub(super) with_play: bool,
}

impl Session {
    /// Starts the processes, through `launcher` where there is one. `program` is this program's own file.
    pub(super) fn start(
        home: Home,
        program: &Path,
        launcher: Option<&Path>,
        ending: Ending,
        interrupts: Interrupts,
    ) -> Self {
        let fleet = Fleet::start(&home, program, launcher, &interrupts.kill);
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            home,
            interrupts,
            ending,
            fleet,
            console: Console::new(),
            started: Instant::now(),
            ticks,
            rate: Rate::default(),
            scene: String::new(),
            cluster: watch::Sender::default(),
            play: watch::Sender::default(),
            observers: JoinSet::new(),
            failures: 0,
            is_stopping: false,
        }
    }

    /// Plays until the end, and stops the processes; without a play, the cluster runs until it is interrupted. `None`: no
    /// play, or interrupted before all was played.
    pub(super) async fn run(mut self, play: Option<Play>) -> anyhow::Result<Option<Summary>> {
        let outcome = Box::pin(self.play(play)).await;
        self.console.keep();
        self.console.say(&"stopping the nodes")?;
        let failures = self.failures;
        self.fleet.stop();
        while let Some(change) = self.fleet.next_change().await? {
            self.note(&change)?;
        }
        self.fleet.ended().await?;
        let summary = outcome?;
        let in_order = self.failures == failures || self.interrupts.kill.is_cancelled();
        anyhow::ensure!(in_order, "not all nodes stopped in order; their logs are in {}", self.home.dir().display());
        Ok(summary)
    }

    async fn play(&mut self, play: Option<Play>) -> anyhow::Result<Option<Summary>> {
        let dir = self.home.dir().display().to_string();
        self.console.say(&format_args!("certificates, data and logs are in {dir}"))?;
        let config = Profile::load(&self.home.client_profile())?.client_config()?;
        let connected = Box::pin(self.drive_until_stop(formation::connected(config))).await?;
        let Some(client) = connected else { return Ok(None) };
        let client = client.with_context(|| format!("no node answers; their logs are in {dir}"))?;
        let observer = Observer::new(&client, &self.home)?;
        let Some(formed) = self.drive_until_stop(formation::formed(&observer)).await? else { return Ok(None) };
        formed.with_context(|| format!("no cluster; the nodes' logs are in {dir}"))?;

        let Some(play) = play else {
            self.console.say(&"the cluster has formed; it runs until Ctrl-C")?;
            self.drive_until_stop(std::future::pending::<()>()).await?;
            return Ok(None);
        };
        let (scene, devices) = (play.scene().to_owned(), play.device_count());
        self.console.say(&format_args!("the cluster has formed; registering the {devices} devices of the {scene}"))?;
        let Some(prepared) = self.drive_until_stop(Box::pin(play.prepare(&client))).await? else { return Ok(None) };
        let prepared = prepared.context("the devices can not be registered")?;
        self.scene = scene;
        self.observers.spawn(observer.clone().watch(self.cluster.clone()));
        let playing = perform(prepared, self.ending.play_time, self.interrupts.clone(), self.play.clone());
        let Some(played) = self.drive(playing).await? else { return Ok(None) };
        let played = played?;
        let Some(cluster) = self.drive(formation::settled(&observer)).await? else { return Ok(None) };
        let summary = Summary::new(&cluster.context("no node answers any more")?, &played, self.failures);
        let status = self.status();
        self.console.finish(&status)?;
        if !self.ending.with_play && !self.interrupts.stop.is_cancelled() {
            self.console.say(&"all has been played; the cluster runs until Ctrl-C")?;
            self.drive(self.interrupts.stop.clone().cancelled_owned()).await?;
        }
        Ok(Some(summary))
    }

    /// As [`Session::drive`], and the first Ctrl-C ends it too.
    async fn drive_until_stop<T>(&mut self, work: impl Future<Output = T>) -> anyhow::Result<Option<T>> {
        let stop = self.interrupts.stop.clone();
        Ok(self.drive(stop.run_until_cancelled(work)).await?.flatten())
    }

    /// Waits for `work`, and meanwhile tells what happens to the processes and shows the status. `None`: killed.
    async fn drive<T>(&mut self, work: impl Future<Output = T>) -> anyhow::Result<Option<T>> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(Some(done)),
                change = self.fleet.next_change() => {
                    let change = change?.context("the supervisors have ended")?;
                    self.note(&change)?;
                }
                _ = self.ticks.tick(), if !self.scene.is_empty() => self.show()?,
                () = self.interrupts.stop.cancelled(), if !self.is_stopping => {
                    self.is_stopping = true;
                    self.console.say(&"stopping as soon as all that was sent is acknowledged; Ctrl-C again kills")?;
                }
                () = self.interrupts.kill.cancelled() => return Ok(None),
            }
        }
    }

    fn note(&mut self, change: &ProcessChange) -> anyhow::Result<()> {
        self.failures += u64::from(change.is_failure());
        Ok(self.console.say(change)?)
    }

    fn show(&mut self) -> anyhow::Result<()> {
        let status = self.status();
        Ok(self.console.show(&status)?)
    }

    fn status(&mut self) -> Status {
        let play = *self.play.borrow();
        let elapsed = self.started.elapsed();
        Status {
            elapsed,
            scene: self.scene.clone(),
            nodes: self.home.node_count(),
            running: self.fleet.running().collect(),
            cluster: self.cluster.borrow().clone(),
            readings_per_s: self.rate.look(elapsed, play.totals.acknowledged),
            play,
        }
    }
}

/// Plays for `play_time`, until the world ends, or until the first Ctrl-C.
async fn perform(
    play: PreparedPlay,
    play_time: Option<Duration>,
    interrupts: Interrupts,
    status: watch::Sender<PlayStatus>,
) -> anyhow::Result<PlayReport> {
    let stop = interrupts.stop.child_token();
    let mut playing = pin!(play.run(&stop, &status));
    if let Some(play_time) = play_time {
        tokio::select! {
            report = &mut playing => return report,
            () = sleep(play_time) => stop.cancel(),
        }
    }
    playing.await
}
