//! Compares the table of time zones with the complete database of jiff.

use crate::zones::zone;
use jiff::Timestamp;
use jiff::tz::TimeZoneDatabase;

/// 2027-01-01T00:00:00Z
const START: i64 = 1_798_761_600_000;
const HOUR: i64 = 3_600_000;

/// Zones with changes that their rule does not express: for Ramadan, and in Cuba for single years.
const WITHOUT_A_RULE: [&str; 4] = [
    "Africa/Casablanca",
    "Africa/El_Aaiun",
    "America/Havana",
    "Cuba",
];

#[test]
fn zones_have_the_local_time_of_the_database() {
    let mut compared = 0;
    // The database of the machine may be of another release.
    let database = TimeZoneDatabase::bundled();
    for name in database.available() {
        let name = name.as_str();
        if WITHOUT_A_RULE.contains(&name) {
            continue;
        }
        let expected = database.get(name).unwrap();
        let zone = zone(name).expect(name);
        compared += 1;
        // Each hour of a day occurs, because 29 and 24 have no common divisor.
        for hours in (0..2 * 366 * 24).step_by(29) {
            let millis = START + hours * HOUR;
            let timestamp = Timestamp::from_millisecond(millis).unwrap();
            let expected = expected.to_datetime(timestamp);
            let time = zone.local(millis).unwrap().time();
            let local = (time.hour(), time.minute());
            assert_eq!(
                local,
                (expected.hour(), expected.minute()),
                "{name} {timestamp}"
            );
        }
    }
    assert!(compared > 500, "{compared} zones");
}

#[test]
fn only_names_and_offsets_are_zones() {
    for name in [
        "UTC",
        "Europe/Berlin",
        "US/Pacific",
        "+02:00",
        "-05:30",
        "+00:00",
    ] {
        assert!(zone(name).is_some(), "{name}");
    }
    for name in [
        "",
        "Europe/berlin",
        "CET+1",
        "+2:00",
        "+24:00",
        "+02:60",
        "+0x:00",
        "02:00",
        "é",
    ] {
        assert!(zone(name).is_none(), "{name}");
    }
}
