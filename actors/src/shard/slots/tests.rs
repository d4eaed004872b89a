//! Which devices of a shard have an actor: activation, the cap, quarantine.

use proptest::prelude::*;

use super::*;

const DEVICE: DeviceNumber = DeviceNumber(7);

fn slots(room: usize) -> Slots<u32> {
    Slots::new(Arc::new(Semaphore::new(room)))
}

/// Spawns what is asked for, as actor 1.
fn spawn(slots: &mut Slots<u32>, actions: &[SlotAction<u32>]) {
    for action in actions {
        if let SlotAction::Activate(device) = action {
            slots.activated(*device, 1);
            slots.started(*device);
        }
    }
}

#[test]
fn a_touched_device_gets_one_actor() {
    let mut slots = slots(10);
    let actions = slots.touch(DEVICE);
    assert_eq!(actions, [SlotAction::Activate(DEVICE)]);
    assert!(slots.touch(DEVICE).is_empty(), "it is about to be spawned");
    spawn(&mut slots, &actions);
    assert_eq!(slots.touch(DEVICE), [SlotAction::Observe(DEVICE, 1)]);
}

#[test]
fn an_idle_actor_is_drained_and_comes_back_when_touched_meanwhile() {
    let mut slots = slots(10);
    let actions = slots.touch(DEVICE);
    spawn(&mut slots, &actions);
    slots.reported(DEVICE, None, true, Timestamp(0));
    assert!(slots.tick(Timestamp(IDLE_MAX_US - 1)).is_empty());
    assert_eq!(slots.tick(Timestamp(IDLE_MAX_US)), [SlotAction::Drain(1)]);
    assert!(slots.touch(DEVICE).is_empty());
    assert_eq!(slots.stopped(DEVICE), [SlotAction::Activate(DEVICE)]);
    slots.activated(DEVICE, 2);
    slots.started(DEVICE);
    slots.reported(DEVICE, None, true, Timestamp(0));
    assert_eq!(slots.tick(Timestamp(IDLE_MAX_US)), [SlotAction::Drain(2)]);
    assert!(slots.stopped(DEVICE).is_empty());
    assert_eq!(slots.count(), (0, 0));
}

#[test]
fn at_the_cap_the_longest_idle_makes_room() {
    let mut slots = slots(2);
    for device in [1, 2] {
        let actions = slots.touch(DeviceNumber(device));
        spawn(&mut slots, &actions);
    }
    slots.reported(DeviceNumber(1), None, true, Timestamp(20));
    slots.reported(DeviceNumber(2), None, true, Timestamp(10));
    assert_eq!(slots.touch(DeviceNumber(3)), [SlotAction::Drain(1)]);
    assert!(slots.stopped(DeviceNumber(2)).is_empty());
    assert_eq!(slots.tick(Timestamp(30)), [SlotAction::Activate(DeviceNumber(3))]);
}

#[test]
fn without_an_idle_one_a_device_waits_for_room() {
    let room = Arc::new(Semaphore::new(1));
    let (mut here, mut there) = (Slots::<u32>::new(Arc::clone(&room)), Slots::<u32>::new(room));
    let actions = here.touch(DeviceNumber(1));
    spawn(&mut here, &actions);
    assert!(there.touch(DeviceNumber(2)).is_empty());
    assert!(there.tick(Timestamp(0)).is_empty());
    here.reported(DeviceNumber(1), None, true, Timestamp(0));
    here.tick(Timestamp(IDLE_MAX_US));
    here.stopped(DeviceNumber(1));
    assert_eq!(there.tick(Timestamp(0)), [SlotAction::Activate(DeviceNumber(2))]);
}

#[test]
fn a_device_that_keeps_failing_is_quarantined_alone() {
    let mut slots = slots(10);
    let mut now = Timestamp(0);
    for failure in 1..=FAILURES_MAX {
        let actions = if failure == 1 { slots.touch(DEVICE) } else { slots.tick(now) };
        assert_eq!(actions, [SlotAction::Activate(DEVICE)], "failure {failure}");
        spawn(&mut slots, &actions);
        let actions = slots.failed(DEVICE, now, 0);
        if failure == FAILURES_MAX {
            assert_eq!(actions, [SlotAction::Quarantine(DEVICE)]);
        } else {
            assert!(actions.is_empty() && slots.tick(now).is_empty(), "it backs off");
        }
        now.0 += 60_000_000;
    }
    assert!(slots.touch(DEVICE).is_empty());
    assert_eq!(slots.touch(DeviceNumber(8)), [SlotAction::Activate(DeviceNumber(8))]);
    assert_eq!(slots.count().1, 1);
}

#[test]
fn a_wake_is_an_observation() {
    let mut slots = slots(10);
    let actions = slots.touch(DEVICE);
    spawn(&mut slots, &actions);
    slots.reported(DEVICE, Some(Timestamp(50)), false, Timestamp(0));
    assert!(slots.tick(Timestamp(49)).is_empty());
    assert_eq!(slots.tick(Timestamp(50)), [SlotAction::Observe(DEVICE, 1)]);
    assert!(slots.tick(Timestamp(51)).is_empty());
}

proptest! {
    /// Whatever happens: never two actors for a device, never more actors than room, and room comes back.
    #[test]
    fn actors_stay_within_the_room(events in prop::collection::vec((0u8..6, 0u32..6, 0i64..4_000_000), 1..200)) {
        const ROOM: usize = 3;
        let room = Arc::new(Semaphore::new(ROOM));
        let mut slots: Slots<u32> = Slots::new(Arc::clone(&room));
        let mut alive: BTreeMap<DeviceNumber, u32> = BTreeMap::new();
        let mut draining: BTreeMap<u32, DeviceNumber> = BTreeMap::new();
        let (mut now, mut next_actor) = (Timestamp(0), 0);
        for (event, device, us) in events {
            let device = DeviceNumber(device);
            now.0 += us;
            let mut todo = match event {
                0 => slots.touch(device),
                1 => slots.touch_if_present(device),
                2 => {
                    slots.reported(device, Some(Timestamp(now.0 + us)), us % 2 == 0, now);
                    Vec::new()
                }
                3 if alive.remove(&device).is_some() => slots.failed(device, now, 0),
                4 => match draining.pop_first() {
                    Some((_, drained)) => slots.stopped(drained),
                    None => Vec::new(),
                },
                _ => slots.tick(now),
            };
            while let Some(action) = todo.pop() {
                match action {
                    SlotAction::Activate(device) => {
                        next_actor += 1;
                        prop_assert!(alive.insert(device, next_actor).is_none(), "two actors for {device}");
                        slots.activated(device, next_actor);
                        slots.started(device);
                    }
                    SlotAction::Observe(device, actor) => prop_assert_eq!(alive.get(&device), Some(&actor)),
                    SlotAction::Drain(actor) => {
                        let device = alive.iter().find(|(_, of)| **of == actor).map(|(device, _)| *device);
                        let device = device.expect("only a living actor is drained");
                        alive.remove(&device);
                        draining.insert(actor, device);
                    }
                    SlotAction::Quarantine(_) => {}
                }
            }
            prop_assert!(alive.len() + draining.len() <= ROOM);
            prop_assert_eq!(room.available_permits(), ROOM - alive.len() - draining.len());
        }
    }
}
