//! Orders to devices, as they understand them. Pure.
//!
//! Once-only execution of a command id is the player's, by the client crate's ledger; a device obeys each order it gets.
use std::collections::BTreeMap;

use crate::signal::{Shape, Signal, SimulatedKind, Value};

/// The command of the kind `luminaire` that sets its light, and its argument in percent.
pub const SET_LEVEL: &str = "set_level";
pub const LEVEL_ARGUMENT: &str = "level";

const FEEDERS_MAX: f64 = 32.0;

/// An argument's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Argument {
    Number(f64),
    Boolean(bool),
    Text(String),
}

/// An order to a device of the world, as its gateway understood it.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Name of the command in the catalog.
    pub action: String,
    pub arguments: BTreeMap<String, Argument>,
}

/// Why a device did not do what it was told. The text goes into the command's receipt.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OrderRefused {
    #[error("this device has no command {action}")]
    UnknownAction { action: String },
    #[error("argument {argument} is missing or of another type")]
    ArgumentMissing { argument: &'static str },
    #[error("{argument} {number} is outside {minimum} to {maximum}")]
    OutOfRange { argument: &'static str, number: f64, minimum: f64, maximum: f64 },
    #[error("attribute {attribute} can not be wished for")]
    NotWritable { attribute: &'static str },
}

/// What a device is to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wish {
    /// Bring this to this value.
    Set(Signal, Value),
    /// `feeder` is below 32.
    SwitchFeeder { feeder: u32, is_closed: bool },
    /// Let the car go.
    Unlock,
}

/// Attributes that the catalog lets people wish for.
const WRITABLE: [Signal; 15] = [
    Signal::LuminaireDimmingLevel,
    Signal::LuminaireMinimumLevel,
    Signal::CabinetWorkingMode,
    Signal::CrossingCurrentTimePlan,
    Signal::GarageStatus,
    Signal::BinThreshold,
    Signal::FloodAlert,
    Signal::FloodDanger,
    Signal::ChargerLimit,
    Signal::SolarPowerLimit,
    Signal::BatteryPowerSetpoint,
    Signal::WaterValveOpen,
    Signal::BuildingTemperatureSetpoint,
    Signal::BuildingVentilationMode,
    Signal::PumpSpeed,
];

impl Order {
    /// What a device of this kind takes the order for.
    pub(crate) fn understood_by(&self, kind: SimulatedKind) -> Result<Wish, OrderRefused> {
        let number = |argument, signal| self.number(argument, signal);
        match (kind, self.action.as_str()) {
            (SimulatedKind::Luminaire, SET_LEVEL) => number(LEVEL_ARGUMENT, Signal::LuminaireDimmingLevel),
            (SimulatedKind::TrafficSignal, "set_plan") => number("plan", Signal::CrossingCurrentTimePlan),
            (SimulatedKind::TrafficSignal, "set_emergency_route") => number("route", Signal::CrossingEmergencyRoute),
            (SimulatedKind::EvCharger, "set_charging_limit") => number("limit", Signal::ChargerLimit),
            (SimulatedKind::EvCharger, "unlock_connector") => Ok(Wish::Unlock),
            (SimulatedKind::Battery, "set_power") => number("power", Signal::BatteryPowerSetpoint),
            (SimulatedKind::Building, "set_temperature") => number("setpoint", Signal::BuildingTemperatureSetpoint),
            (SimulatedKind::Solar, "set_power_limit") => number("limit", Signal::SolarPowerLimit),
            (SimulatedKind::Pump, "set_speed") => number("speed", Signal::PumpSpeed),
            (SimulatedKind::ElectricityMeter, "set_disconnector") => {
                Ok(Wish::Set(Signal::MeterConnected, Value::Boolean(self.boolean("closed")?)))
            }
            (SimulatedKind::WaterMeter, "set_valve") => {
                Ok(Wish::Set(Signal::WaterValveOpen, Value::Boolean(self.boolean("open")?)))
            }
            (SimulatedKind::Garage, "set_sign") => {
                let missing = OrderRefused::ArgumentMissing { argument: "status" };
                let Some(Argument::Text(text)) = self.arguments.get("status") else { return Err(missing) };
                Ok(Wish::Set(Signal::GarageStatus, Signal::GarageStatus.choice(text).ok_or(missing)?))
            }
            (SimulatedKind::Cabinet, "switch_feeder") => {
                let feeder = self.ranged("feeder", 1.0, FEEDERS_MAX)?;
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 32")]
                let feeder = feeder as u32 - 1;
                Ok(Wish::SwitchFeeder { feeder, is_closed: self.boolean("closed")? })
            }
            _ => Err(OrderRefused::UnknownAction { action: self.action.clone() }),
        }
    }

    fn number(&self, argument: &'static str, signal: Signal) -> Result<Wish, OrderRefused> {
        let (minimum, maximum) = signal.range().unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        Ok(Wish::Set(signal, Value::Number(self.ranged(argument, minimum, maximum)?)))
    }

    fn ranged(&self, argument: &'static str, minimum: f64, maximum: f64) -> Result<f64, OrderRefused> {
        match self.arguments.get(argument) {
            Some(Argument::Number(number)) if (minimum..=maximum).contains(number) => Ok(*number),
            Some(Argument::Number(number)) => {
                Err(OrderRefused::OutOfRange { argument, number: *number, minimum, maximum })
            }
            Some(Argument::Boolean(_) | Argument::Text(_)) | None => Err(OrderRefused::ArgumentMissing { argument }),
        }
    }

    fn boolean(&self, argument: &'static str) -> Result<bool, OrderRefused> {
        match self.arguments.get(argument) {
            Some(Argument::Boolean(boolean)) => Ok(*boolean),
            Some(Argument::Number(_) | Argument::Text(_)) | None => Err(OrderRefused::ArgumentMissing { argument }),
        }
    }
}

/// The wish that `signal` be `argument`.
pub(crate) fn wish(signal: Signal, argument: &Argument) -> Result<Wish, OrderRefused> {
    let attribute = signal.attribute();
    let missing = OrderRefused::ArgumentMissing { argument: attribute };
    if !WRITABLE.contains(&signal) {
        return Err(OrderRefused::NotWritable { attribute });
    }
    match (argument, signal.shape()) {
        (Argument::Number(number), Shape::Number { minimum, maximum } | Shape::Integer { minimum, maximum }) => {
            if (minimum..=maximum).contains(number) {
                Ok(Wish::Set(signal, Value::Number(*number)))
            } else {
                Err(OrderRefused::OutOfRange { argument: attribute, number: *number, minimum, maximum })
            }
        }
        (Argument::Boolean(boolean), Shape::Boolean) => Ok(Wish::Set(signal, Value::Boolean(*boolean))),
        (Argument::Text(text), Shape::Choice(_)) => Ok(Wish::Set(signal, signal.choice(text).ok_or(missing)?)),
        _ => Err(missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(action: &str, arguments: &[(&str, Argument)]) -> Order {
        let arguments = arguments.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Order { action: action.to_owned(), arguments }
    }

    #[test]
    fn kinds_understand_their_own_commands() {
        let level = order(SET_LEVEL, &[(LEVEL_ARGUMENT, Argument::Number(40.0))]);
        let set = Wish::Set(Signal::LuminaireDimmingLevel, Value::Number(40.0));
        assert_eq!(level.understood_by(SimulatedKind::Luminaire), Ok(set));
        let unknown = OrderRefused::UnknownAction { action: SET_LEVEL.to_owned() };
        assert_eq!(level.understood_by(SimulatedKind::Bus), Err(unknown));
        let feeder = [("feeder", Argument::Number(32.0)), ("closed", Argument::Boolean(false))];
        let switched = Wish::SwitchFeeder { feeder: 31, is_closed: false };
        assert_eq!(order("switch_feeder", &feeder).understood_by(SimulatedKind::Cabinet), Ok(switched));
        let sign = order("set_sign", &[("status", Argument::Text("closed".to_owned()))]);
        let closed = Wish::Set(Signal::GarageStatus, Value::Choice(1));
        assert_eq!(sign.understood_by(SimulatedKind::Garage), Ok(closed));
    }

    #[test]
    fn an_order_that_makes_no_sense_is_refused() {
        let level = |arguments: &[_]| order(SET_LEVEL, arguments).understood_by(SimulatedKind::Luminaire);
        let above = level(&[(LEVEL_ARGUMENT, Argument::Number(101.0))]).unwrap_err();
        assert_eq!(above.to_string(), "level 101 is outside 0 to 100");
        let missing = Err(OrderRefused::ArgumentMissing { argument: LEVEL_ARGUMENT });
        assert_eq!(level(&[]), missing);
        assert_eq!(level(&[(LEVEL_ARGUMENT, Argument::Boolean(true))]), missing);
    }

    #[test]
    fn only_what_is_writable_can_be_wished_for() {
        let number = Argument::Number(25.0);
        assert!(wish(Signal::BinThreshold, &number).is_ok());
        let refused = OrderRefused::NotWritable { attribute: "fillingLevel" };
        assert_eq!(wish(Signal::BinFilling, &number), Err(refused));
        assert!(wish(Signal::WaterValveOpen, &number).is_err());
    }
}
