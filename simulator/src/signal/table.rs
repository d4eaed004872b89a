//! Every kind of the built-in catalog and every attribute of it, as the simulation writes them: one row each.
//!
//! The rows are those of the catalog's documents; a test holds them against each other. To find what a value means, read the
//! kind's document; what it is at a moment stands in `measure`.
use crate::signal::Shape;

/// From kinds to the enum and its names.
macro_rules! kinds {
    ($($kind:ident: $name:literal;)*) => {
        /// Kinds of the built-in catalog.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum SimulatedKind {
            $($kind,)*
        }

        impl SimulatedKind {
            pub const ALL: [Self; 21] = [$(Self::$kind,)*];

            /// Name in the catalog.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

/// From rows `Signal: Kind, "attribute", seconds between two reports, shape` to the enum and its table. Zero seconds: the
/// catalog expects no regular report.
macro_rules! signals {
    ($($signal:ident: $kind:ident, $attribute:literal, $interval_s:literal, $shape:expr;)*) => {
        /// One attribute of one kind.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Signal {
            $($signal,)*
        }

        impl Signal {
            pub const ALL: [Self; 140] = [$(Self::$signal,)*];

            pub(super) const ROWS: [Row; 140] = [
                $(Row { kind: SimulatedKind::$kind, attribute: $attribute, interval_s: $interval_s, shape: $shape },)*
            ];
        }
    };
}

/// What the table says about a signal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) kind: SimulatedKind,
    pub(super) attribute: &'static str,
    pub(super) interval_s: u32,
    pub(super) shape: Shape,
}

const fn number(minimum: f64, maximum: f64) -> Shape {
    Shape::Number { minimum, maximum }
}

const fn integer(minimum: f64, maximum: f64) -> Shape {
    Shape::Integer { minimum, maximum }
}

kinds! {
    Luminaire: "luminaire";
    Cabinet: "cabinet";
    TrafficFlowSensor: "traffic_flow_sensor";
    TrafficSignal: "traffic_signal";
    Bus: "bus";
    Garage: "garage";
    ParkingBay: "parking_bay";
    WasteContainer: "waste_container";
    Weather: "weather";
    AirQuality: "air_quality";
    Noise: "noise";
    FloodLevel: "flood_level";
    ElectricityMeter: "electricity_meter";
    EvCharger: "ev_charger";
    Solar: "solar";
    Battery: "battery";
    HeatMeter: "heat_meter";
    WaterMeter: "water_meter";
    Building: "building";
    Pump: "pump";
    CitizenReports: "citizen_reports";
}

signals! {
    LuminaireDimmingLevel: Luminaire, "dimmingLevel", 900, number(0.0, 100.0);
    LuminaireActivePower: Luminaire, "activePower", 900, number(0.0, 2_000.0);
    LuminairePowerState: Luminaire, "powerState", 900, Shape::Choice(&["off", "low", "on", "bootingUp"]);
    LuminaireStatus: Luminaire, "status", 86400, Shape::Choice(&["ok", "defectiveLamp", "columnIssue", "brokenLantern"]);
    LuminairePowerRating: Luminaire, "powerRating", 0, number(0.0, 2_000.0);
    LuminaireMinimumLevel: Luminaire, "minimumLevel", 0, number(0.0, 100.0);
    LuminaireEnergy: Luminaire, "lifetimePowerConsumption", 86400, number(0.0, f64::INFINITY);
    LuminaireTemperature: Luminaire, "temperature", 3600, number(-50.0, 150.0);
    LuminaireVoltage: Luminaire, "voltage", 3600, number(0.0, 500.0);
    CabinetPower: Cabinet, "totalActivePower", 900, number(0.0, 1_000.0);
    CabinetEnergy: Cabinet, "energyConsumed", 3600, number(0.0, f64::INFINITY);
    CabinetVoltageR: Cabinet, "voltageR", 900, number(0.0, 500.0);
    CabinetVoltageS: Cabinet, "voltageS", 900, number(0.0, 500.0);
    CabinetVoltageT: Cabinet, "voltageT", 900, number(0.0, 500.0);
    CabinetIntensityR: Cabinet, "intensityR", 900, number(0.0, 1_000.0);
    CabinetIntensityS: Cabinet, "intensityS", 900, number(0.0, 1_000.0);
    CabinetIntensityT: Cabinet, "intensityT", 900, number(0.0, 1_000.0);
    CabinetCosPhi: Cabinet, "cosPhi", 900, number(-1.0, 1.0);
    CabinetFrequency: Cabinet, "frequency", 900, number(40.0, 70.0);
    CabinetWorkingMode: Cabinet, "workingMode", 86400, Shape::Choice(&["automatic", "manual", "semiautomatic"]);
    CabinetDoorOpen: Cabinet, "doorOpen", 86400, Shape::Boolean;
    FlowIntensity: TrafficFlowSensor, "intensity", 300, integer(0.0, 3_000.0);
    FlowSpeed: TrafficFlowSensor, "averageVehicleSpeed", 300, number(0.0, 250.0);
    FlowTravelTime: TrafficFlowSensor, "travelTime", 300, number(0.0, 86_400.0);
    FlowOccupancy: TrafficFlowSensor, "occupancy", 300, number(0.0, 1.0);
    FlowCongested: TrafficFlowSensor, "congested", 300, Shape::Boolean;
    FlowLaneDirection: TrafficFlowSensor, "laneDirection", 0, Shape::Choice(&["forward", "backward"]);
    FlowSegmentLength: TrafficFlowSensor, "segmentLength", 0, number(0.0, 100_000.0);
    CrossingControlMode: TrafficSignal, "controlMode", 60, Shape::Choice(&["startup", "control", "standby", "failure", "test"]);
    CrossingCurrentTimePlan: TrafficSignal, "currentTimePlan", 60, integer(0.0, 255.0);
    CrossingCyclePhase: TrafficSignal, "cyclePhase", 5, integer(0.0, 64.0);
    CrossingCycleLength: TrafficSignal, "cycleLength", 300, number(0.0, 600.0);
    CrossingEmergencyRoute: TrafficSignal, "emergencyRoute", 60, integer(0.0, 255.0);
    CrossingFaultLevel: TrafficSignal, "faultLevel", 300, Shape::Choice(&["none", "minor", "major", "critical"]);
    BusLocation: Bus, "location", 10, Shape::Point;
    BusSpeed: Bus, "speed", 10, number(0.0, 150.0);
    BusHeading: Bus, "heading", 10, number(0.0, 360.0);
    BusServiceStatus: Bus, "serviceStatus", 300, Shape::Choice(&["onRoute", "parked", "outOfService", "broken"]);
    BusDelay: Bus, "delay", 60, integer(-3_600.0, 86_400.0);
    BusLine: Bus, "line", 3600, Shape::Text;
    BusOccupancy: Bus, "occupancy", 60, number(0.0, 1.0);
    BusBattery: Bus, "battery", 300, number(0.0, 100.0);
    BusMileage: Bus, "mileageFromOdometer", 3600, number(0.0, f64::INFINITY);
    GarageOccupied: Garage, "occupiedSpotNumber", 1800, integer(0.0, 100_000.0);
    GarageSpots: Garage, "totalSpotNumber", 0, integer(0.0, 100_000.0);
    GarageAvailable: Garage, "availableSpotNumber", 1800, integer(0.0, 100_000.0);
    GarageOccupancy: Garage, "occupancy", 1800, number(0.0, 1.0);
    GarageStatus: Garage, "status", 1800, Shape::Choice(&["almostFull", "closed", "closedAbnormal", "full", "fullAtEntrance", "open", "openingTimesInForce"]);
    BayStatus: ParkingBay, "status", 3600, Shape::Choice(&["free", "occupied", "closed", "unknown"]);
    BayBatteryLevel: ParkingBay, "batteryLevel", 86400, number(0.0, 100.0);
    BinFilling: WasteContainer, "fillingLevel", 3600, number(0.0, 1.0);
    BinTemperature: WasteContainer, "temperature", 3600, number(-40.0, 120.0);
    BinStatus: WasteContainer, "status", 3600, Shape::Choice(&["ok", "lidOpen", "dropped", "moved", "vandalized", "burning", "unknown"]);
    BinCapacity: WasteContainer, "binCapacity", 0, number(0.0, 50_000.0);
    BinThreshold: WasteContainer, "binFullnessThreshold", 0, number(0.0, 100.0);
    BinWasteKind: WasteContainer, "storedWasteKind", 0, Shape::Choice(&["organic", "inorganic", "glass", "oil", "plastic", "metal", "paper", "batteries", "electronics", "hazardous", "other"]);
    BinBatteryLevel: WasteContainer, "batteryLevel", 86400, number(0.0, 100.0);
    WeatherTemperature: Weather, "temperature", 600, number(-60.0, 60.0);
    WeatherRelativeHumidity: Weather, "relativeHumidity", 600, number(0.0, 1.0);
    WeatherPressure: Weather, "atmosphericPressure", 600, number(800.0, 1_100.0);
    WeatherWindSpeed: Weather, "windSpeed", 600, number(0.0, 100.0);
    WeatherWindDirection: Weather, "windDirection", 600, number(0.0, 360.0);
    WeatherGustSpeed: Weather, "gustSpeed", 600, number(0.0, 150.0);
    WeatherPrecipitation: Weather, "precipitation", 600, number(0.0, 500.0);
    WeatherIlluminance: Weather, "illuminance", 600, number(0.0, 200_000.0);
    WeatherSolarRadiation: Weather, "solarRadiation", 600, number(0.0, 2_000.0);
    WeatherSnowHeight: Weather, "snowHeight", 3600, number(0.0, 1_000.0);
    AirNitrogenDioxide: AirQuality, "no2", 600, number(0.0, 2_000.0);
    AirCoarseParticles: AirQuality, "pm10", 600, number(0.0, 2_000.0);
    AirFineParticles: AirQuality, "pm25", 600, number(0.0, 2_000.0);
    AirOzone: AirQuality, "o3", 600, number(0.0, 2_000.0);
    AirCarbonMonoxide: AirQuality, "co", 600, number(0.0, 100_000.0);
    AirSulphurDioxide: AirQuality, "so2", 600, number(0.0, 5_000.0);
    AirIndex: AirQuality, "airQualityIndex", 600, number(0.0, 500.0);
    AirTemperature: AirQuality, "temperature", 600, number(-60.0, 60.0);
    AirRelativeHumidity: AirQuality, "relativeHumidity", 600, number(0.0, 1.0);
    AirPressure: AirQuality, "pressure", 600, number(800.0, 1_100.0);
    NoiseLAeq: Noise, "LAeq", 300, number(0.0, 150.0);
    NoiseLAmax: Noise, "LAmax", 300, number(0.0, 150.0);
    NoiseLAS: Noise, "LAS", 300, number(0.0, 150.0);
    NoiseSonometerClass: Noise, "sonometerClass", 0, Shape::Choice(&["0", "1", "2"]);
    FloodLevel: FloodLevel, "currentLevel", 600, number(-50.0, 100.0);
    FloodDistance: FloodLevel, "measuredDistance", 600, number(0.0, 100.0);
    FloodAlert: FloodLevel, "alertLevel", 0, number(-50.0, 100.0);
    FloodDanger: FloodLevel, "dangerLevel", 0, number(-50.0, 100.0);
    FloodBatteryLevel: FloodLevel, "batteryLevel", 86400, number(0.0, 100.0);
    MeterImport: ElectricityMeter, "totalActiveEnergyImport", 3600, number(0.0, f64::INFINITY);
    MeterExport: ElectricityMeter, "totalActiveEnergyExport", 3600, number(0.0, f64::INFINITY);
    MeterPower: ElectricityMeter, "totalActivePower", 900, number(-2_000_000.0, 2_000_000.0);
    MeterFrequency: ElectricityMeter, "frequency", 900, number(40.0, 70.0);
    MeterPowerFactor: ElectricityMeter, "totalPowerFactor", 900, number(-1.0, 1.0);
    MeterConnected: ElectricityMeter, "connected", 86400, Shape::Boolean;
    ChargerConnector: EvCharger, "connectorStatus", 3600, Shape::Choice(&["Available", "Occupied", "Reserved", "Unavailable", "Faulted"]);
    ChargerState: EvCharger, "chargingState", 300, Shape::Choice(&["Idle", "EVConnected", "Charging", "SuspendedEV", "SuspendedEVSE"]);
    ChargerPower: EvCharger, "powerActiveImport", 60, number(0.0, 500_000.0);
    ChargerEnergy: EvCharger, "energyActiveImportRegister", 300, number(0.0, f64::INFINITY);
    ChargerStateOfCharge: EvCharger, "stateOfCharge", 300, number(0.0, 100.0);
    ChargerCurrentImport: EvCharger, "currentImport", 60, number(0.0, 1_000.0);
    ChargerTransactionId: EvCharger, "transactionId", 0, Shape::Text;
    ChargerLimit: EvCharger, "chargingLimit", 300, number(0.0, 500_000.0);
    ChargerPowerRating: EvCharger, "powerRating", 0, number(0.0, 500_000.0);
    SolarActivePower: Solar, "activePower", 300, number(0.0, 100_000.0);
    SolarEnergyGenerated: Solar, "energyGenerated", 3600, number(0.0, f64::INFINITY);
    SolarPeakPower: Solar, "nominalPeakPowerGeneration", 0, number(0.0, 100_000.0);
    SolarTemperature: Solar, "temperature", 300, number(-50.0, 120.0);
    SolarPowerLimit: Solar, "powerLimit", 300, number(0.0, 100.0);
    BatteryStateOfCharge: Battery, "stateOfCharge", 300, number(0.0, 100.0);
    BatteryActivePower: Battery, "activePower", 60, number(-100_000.0, 100_000.0);
    BatteryStateOfHealth: Battery, "stateOfHealth", 86400, number(0.0, 100.0);
    BatteryStatus: Battery, "batteryStatus", 300, Shape::Choice(&["consumingEnergy", "givingEnergy", "standby"]);
    BatteryTemperature: Battery, "temperature", 300, number(-40.0, 120.0);
    BatteryCapacity: Battery, "capacity", 0, number(0.0, 1_000_000.0);
    BatteryPowerSetpoint: Battery, "powerSetpoint", 300, number(-100_000.0, 100_000.0);
    HeatEnergy: HeatMeter, "energy", 3600, number(0.0, f64::INFINITY);
    HeatVolume: HeatMeter, "volume", 3600, number(0.0, f64::INFINITY);
    HeatFlow: HeatMeter, "flow", 3600, number(0.0, 1_000.0);
    HeatPower: HeatMeter, "power", 3600, number(0.0, 10_000.0);
    HeatForwardTemperature: HeatMeter, "forwardTemperature", 3600, number(0.0, 150.0);
    HeatReturnTemperature: HeatMeter, "returnTemperature", 3600, number(0.0, 150.0);
    WaterVolume: WaterMeter, "waterConsumption", 3600, number(0.0, f64::INFINITY);
    WaterMaxFlow: WaterMeter, "maxFlow", 3600, number(0.0, 1_000_000.0);
    WaterMinFlow: WaterMeter, "minFlow", 3600, number(0.0, 1_000_000.0);
    WaterLeakAlarm: WaterMeter, "alarmStopsLeaks", 86400, Shape::Boolean;
    WaterTamperAlarm: WaterMeter, "alarmTamper", 86400, Shape::Boolean;
    WaterType: WaterMeter, "waterType", 0, Shape::Choice(&["hotWater", "serviceWater"]);
    WaterValveOpen: WaterMeter, "valveOpen", 86400, Shape::Boolean;
    BuildingTemperature: Building, "temperature", 600, number(-40.0, 60.0);
    BuildingPeopleOccupancy: Building, "peopleOccupancy", 600, integer(0.0, 100_000.0);
    BuildingPeopleCapacity: Building, "peopleCapacity", 0, integer(0.0, 100_000.0);
    BuildingCarbonDioxide: Building, "co2", 600, number(0.0, 10_000.0);
    BuildingActivePower: Building, "activePower", 300, number(0.0, 100_000.0);
    BuildingTemperatureSetpoint: Building, "temperatureSetpoint", 3600, number(5.0, 30.0);
    BuildingVentilationMode: Building, "ventilationMode", 3600, Shape::Choice(&["unoccupied", "occupied", "boost"]);
    PumpSpeed: Pump, "speed", 300, number(0.0, 100.0);
    PumpFlow: Pump, "flow", 300, number(0.0, 100_000.0);
    PumpPower: Pump, "activePower", 300, number(0.0, 10_000.0);
    PumpStatus: Pump, "status", 3600, Shape::Choice(&["ok", "runningDry", "blocked"]);
    ReportServiceCode: CitizenReports, "service_code", 0, Shape::Choice(&["streetLight", "waste", "pothole", "flooding", "waterLeak"]);
    ReportLocation: CitizenReports, "location", 0, Shape::Point;
    ReportRequestId: CitizenReports, "service_request_id", 0, Shape::Text;
}
