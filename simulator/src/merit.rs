//! A service's figure of merit: what a day of the same city comes to with the service and without it.
//!
//! Start at [`LightingPlan::run`]. Both plays of a day have the same seed, so that they differ in what the service ordered and
//! in nothing else; each has districts of its own in the cluster, which keeps what it was told once. The figures are the
//! world's own, taken at its lamps, not the service's. `report` is what people and programs get.
mod report;

use std::time::Duration;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use kvarter_api::{ApiError, Client, DistrictName, ServiceName, v1};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::calendar::{days_since_epoch, moment_of};
use crate::clock::wall_clock;
use crate::compare::Tell;
use crate::dials::Dials;
use crate::player::{PlayEnded, PlayError, PlayOptions, PlayReport, PlayStatus, Player, Speed, Steps};
use crate::preset::Preset;
use crate::world::{CityOptions, LitPart, World};
pub use report::{LightingDay, LightingMerit, LightingRun};

const SERVICE: &str = "lighting";
const ORDERS_FIGURE: &str = "commands";
/// The service needs the rush hour of the day before to know each road's usual peak.
const BEFORE_DAY: SignedDuration = SignedDuration::from_hours(12);
/// Without orders there is nothing to wait for within an hour.
const STEP_WITHOUT: SignedDuration = SignedDuration::from_hours(1);
/// An order that readings lead to has come this long after they were acknowledged, in real time. One that takes longer is
/// carried out a step later.
const QUIET: Duration = Duration::from_millis(40);
/// Longest wait for orders that are on their way, in each step.
const ORDERS_MAX: Duration = Duration::from_secs(10);
/// A new district has its services within this time.
const SERVICE_MAX: Duration = Duration::from_secs(30);
const LOOK_PAUSE: Duration = Duration::from_millis(50);
const LANES: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(30);
const NEWS_INTERVAL: Duration = Duration::from_secs(10);

/// What to play.
#[derive(Clone, Debug, PartialEq)]
pub struct LightingPlan {
    pub preset: Preset,
    pub seed: u64,
    /// Danish days that are over.
    pub days: Vec<Date>,
    /// Districts that are played, evenly from the centre outwards.
    pub districts: u32,
    /// The service's orders are carried out so much simulated time after what led to them, at most.
    pub step: SignedDuration,
}

#[derive(Debug, thiserror::Error)]
pub enum MeritError {
    #[error("{day} is not over yet, and a cluster refuses what was observed in the future")]
    DayNotOver { day: Date },
    #[error("district {district} has no service `{SERVICE}` after {} s", SERVICE_MAX.as_secs())]
    NoService { district: String },
    #[error("a play did not come to its end: {reason}")]
    NotPlayed { reason: String },
    #[error(transparent)]
    Play(#[from] PlayError),
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// With the service or without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Without,
    With,
}

impl LightingPlan {
    /// Plays each day twice into the cluster of `client`, as fast as orders are carried out; some minutes a day. The devices
    /// stay registered.
    pub async fn run(&self, client: &Client, tell: &mut impl Tell) -> Result<LightingMerit, MeritError> {
        let now = wall_clock();
        let late = self.days.iter().find(|day| day_end(**day) > now);
        if let Some(day) = late {
            return Err(MeritError::DayNotOver { day: *day });
        }
        let mut merit = LightingMerit::new(self);
        for (number, day) in self.days.iter().enumerate() {
            let name = format!("{}-{}-{number}", self.preset, now.as_second());
            let without = self.play(client, *day, &format!("{name}-without"), Turn::Without, tell).await?;
            let with = self.play(client, *day, &format!("{name}-with"), Turn::With, tell).await?;
            let day = LightingDay { day: *day, without, with };
            tell.tell(&day.to_string());
            merit.days.push(day);
        }
        Ok(merit)
    }

    /// The city, whose devices fail as they were measured to. But none ignores or delays an order: the service leaves such a
    /// lamp alone for minutes of real time, which are hours here.
    fn city(&self) -> CityOptions {
        let dials = Dials { ignored_commands: 0.0, slow_acknowledgements: 0.0, ..Dials::default() };
        CityOptions { seed: self.seed, preset: self.preset, devices: None, dials, scenario: None }
    }

    fn world(&self, day: Date, name: &str) -> World {
        let (watched_from, watched_to) = (day_start(day), day_end(day));
        let part = LitPart { name: name.to_owned(), districts: self.districts, watched_from, watched_to };
        World::lit_part(&self.city(), &part, watched_from - BEFORE_DAY)
    }

    async fn play(
        &self,
        client: &Client,
        day: Date,
        name: &str,
        turn: Turn,
        tell: &mut impl Tell,
    ) -> Result<LightingRun, MeritError> {
        let begun = Instant::now();
        let world = self.world(day, name);
        let (start, districts) = (world.start(), world.district_names());
        let options = PlayOptions { speed: Speed::Max, lanes: LANES, patience: PATIENCE };
        let player = Player::prepare(client, world, options).await?;
        let mut services = Vec::new();
        for district in districts {
            services.push(service_of(client, &district, turn).await?);
        }
        let (steps, led) = Steps::new(start);
        let (stop, status) = (CancellationToken::new(), watch::Sender::new(PlayStatus::default()));
        let leading = async {
            let mut lead = Lead { client, services, steps, given_up: 0, hurried_steps: 0 };
            let led = lead.through((start, day_end(day)), self.step, turn, tell).await;
            stop.cancel();
            led.map(|()| lead.hurried_steps)
        };
        let playing = Box::pin(player.run_in_steps(led, &stop, &status));
        let (report, led) = tokio::join!(playing, Box::pin(leading));
        let hurried_steps = led.map_err(|error| match error {
            LeadError::Ended(ended) => not_played(&report, ended.to_string()),
            LeadError::Api(error) => error.into(),
        })?;
        if report.errors > 0 || report.readings_unanswered > 0 {
            return Err(not_played(&report, format!("{} readings have no outcome", report.readings_unanswered)));
        }
        Ok(LightingRun {
            districts: report.light,
            orders: report.commands_executed,
            orders_failed: report.commands_failed,
            readings: report.readings_sent,
            hurried_steps,
            took_s: begun.elapsed().as_secs_f64(),
        })
    }
}

fn not_played(report: &PlayReport, otherwise: String) -> MeritError {
    MeritError::NotPlayed { reason: report.failures.first().cloned().unwrap_or(otherwise) }
}

fn day_start(day: Date) -> Timestamp {
    moment_of(days_since_epoch(day), 0.0)
}

fn day_end(day: Date) -> Timestamp {
    moment_of(days_since_epoch(day) + 1, 0.0)
}

/// The district of a lighting service, once there is one; it steers its lamps in a turn with it, and only counts in one
/// without.
async fn service_of(client: &Client, district: &str, turn: Turn) -> Result<DistrictName, MeritError> {
    let no_service = || MeritError::NoService { district: district.to_owned() };
    let name = DistrictName::new(district).map_err(|_malformed| no_service())?;
    let give_up = Instant::now() + SERVICE_MAX;
    let mode = match turn {
        Turn::Without => v1::ServiceMode::Observe,
        Turn::With => v1::ServiceMode::Active,
    };
    loop {
        let own = client.services(Some(&name)).await?;
        let names = own.into_iter().filter_map(|service| service.name.parse::<ServiceName>().ok());
        let lighting = names.into_iter().find(|name| name.to_string().ends_with(&format!("/{SERVICE}")));
        if let Some(lighting) = lighting {
            client.set_service_mode(&lighting, mode).await?;
            return Ok(name);
        }
        if Instant::now() >= give_up {
            return Err(no_service());
        }
        sleep(LOOK_PAUSE).await;
    }
}

/// Leads a play through time.
struct Lead<'a> {
    client: &'a Client,
    services: Vec<DistrictName>,
    steps: Steps,
    /// Orders that were waited for in vain.
    given_up: u64,
    hurried_steps: u64,
}

enum LeadError {
    Ended(PlayEnded),
    Api(ApiError),
}

impl Lead<'_> {
    async fn through(
        &mut self,
        (from, to): (Timestamp, Timestamp),
        step: SignedDuration,
        turn: Turn,
        tell: &mut impl Tell,
    ) -> Result<(), LeadError> {
        let (mut at, mut told) = (from, Instant::now());
        while at < to {
            at = to.min(at + if turn == Turn::With { step } else { STEP_WITHOUT });
            let done = self.steps.go_on(at).await.map_err(LeadError::Ended)?;
            if turn == Turn::With {
                self.carried_out().await?;
            }
            if told.elapsed() >= NEWS_INTERVAL {
                told = Instant::now();
                let name = if turn == Turn::With { "with" } else { "without" };
                tell.tell(&format!("{name} the service, {at}: {} orders", done.orders));
            }
        }
        Ok(())
    }

    /// Waits until all orders that were given have been carried out.
    async fn carried_out(&mut self) -> Result<(), LeadError> {
        let give_up = Instant::now() + ORDERS_MAX;
        loop {
            let done = self.steps.quiet(QUIET).await.map_err(LeadError::Ended)?;
            let open = self.ordered().await.map_err(LeadError::Api)?.saturating_sub(done.orders + self.given_up);
            if open == 0 {
                return Ok(());
            }
            if Instant::now() >= give_up {
                self.given_up += open;
                self.hurried_steps += 1;
                return Ok(());
            }
        }
    }

    /// Orders that the services have given.
    async fn ordered(&self) -> Result<u64, ApiError> {
        let mut asking = JoinSet::new();
        for district in &self.services {
            let (client, district) = (self.client.clone(), district.clone());
            asking.spawn(async move { client.services(Some(&district)).await });
        }
        let mut ordered = 0.0;
        for answer in asking.join_all().await {
            ordered += answer?.iter().filter_map(|service| service.figures.get(ORDERS_FIGURE)).sum::<f64>();
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of orders")]
        let ordered = ordered as u64;
        Ok(ordered)
    }
}
