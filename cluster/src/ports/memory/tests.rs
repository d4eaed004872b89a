//! What a simulated disk keeps, and what it may lose.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;

const SEEDS: u64 = 200;

fn storage() -> MemoryStorage {
    let storage = MemoryStorage::new();
    storage.create_directory(Path::new("/node/log")).unwrap();
    storage
}

fn content(storage: &MemoryStorage, path: &str) -> Option<Vec<u8>> {
    let file = storage.open(Path::new(path)).ok()?;
    Some(super::super::storage::read_to_end(&*file).unwrap())
}

#[test]
fn what_was_synced_stays_and_sectors_of_the_rest_are_old_or_new() {
    let storage = storage();
    let file = storage.create(Path::new("/node/log/1")).unwrap();
    file.write_at(&[1; 2048], 0).unwrap();
    file.sync().unwrap();
    storage.sync_directory(Path::new("/node/log")).unwrap();
    file.write_at(&[2; 2048], 0).unwrap();
    let mut outcomes = BTreeSet::new();
    for seed in 0..SEEDS {
        let found = content(&storage.crash(seed), "/node/log/1").unwrap();
        assert_eq!(found, content(&storage.crash(seed), "/node/log/1").unwrap(), "the seed decides");
        let sectors: Vec<u8> = found.chunks(512).map(|sector| sector[0]).collect();
        assert!(found.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        assert_eq!(sectors.len(), 4);
        outcomes.insert(sectors);
    }
    assert!(outcomes.contains(&vec![1; 4]) && outcomes.contains(&vec![2; 4]) && outcomes.len() > 4, "{outcomes:?}");
    assert_eq!(content(&storage.kill(), "/node/log/1").unwrap(), [2; 2048]);
    file.sync().unwrap();
    assert!((0..SEEDS).all(|seed| content(&storage.crash(seed), "/node/log/1").unwrap() == [2; 2048]));
}

#[test]
fn a_new_name_may_be_lost_until_its_directory_is_synced_and_a_rename_is_whole() {
    let storage = storage();
    let write = |path: &str, byte: u8| {
        let file = storage.create(Path::new(path)).unwrap();
        file.write_at(&[byte], 0).unwrap();
        file.sync().unwrap();
    };
    write("/node/identity", 1);
    let is_there = |seed: u64| content(&storage.crash(seed), "/node/identity").is_some();
    assert!((0..SEEDS).any(is_there) && !(0..SEEDS).all(is_there));
    storage.sync_directory(Path::new("/node")).unwrap();
    assert!((0..SEEDS).all(is_there));
    write("/node/identity.new", 2);
    storage.rename(Path::new("/node/identity.new"), Path::new("/node/identity")).unwrap();
    let found: BTreeSet<_> = (0..SEEDS).map(|seed| content(&storage.crash(seed), "/node/identity").unwrap()).collect();
    assert_eq!(found, BTreeSet::from([vec![1], vec![2]]));
}

#[test]
fn batches_are_whole_and_in_order_and_durable_after_a_flush() {
    let storage = storage();
    let database = storage.open_database(Path::new("/node/state")).unwrap();
    let tree = database.tree("one").unwrap();
    let batch = |number: u8| vec![(vec![0], Some(vec![number])), (vec![number], Some(vec![number]))];
    let found = |seed: u64| {
        let database = storage.crash(seed).open_database(Path::new("/node/state")).unwrap();
        let tree = database.tree("one").unwrap();
        let found: Vec<_> = tree.scan(&[]).map(|item| item.unwrap().0[0]).collect();
        (tree.get(&[0]).unwrap().map_or(0, |newest| newest[0]), found)
    };
    for number in 1..=3 {
        tree.apply(batch(number)).unwrap();
    }
    let mut newest = BTreeSet::new();
    for seed in 0..SEEDS {
        let (last, keys) = found(seed);
        assert!(last == 0 && keys.is_empty() || keys == (0..=last).collect::<Vec<_>>(), "{last}: {keys:?}");
        newest.insert(last);
    }
    assert_eq!(newest, BTreeSet::from([0, 1, 2, 3]));
    database.flush().unwrap();
    tree.apply(vec![(vec![1], None)]).unwrap();
    assert!((0..SEEDS).all(|seed| found(seed).0 == 3));
}

#[test]
fn a_full_disk_takes_what_fits() {
    let storage = storage();
    storage.set_capacity(Some(1_000));
    let file = storage.create(Path::new("/node/log/1")).unwrap();
    file.write_at(&[1; 900], 0).unwrap();
    assert_eq!(file.write_at(&[2; 200], 900).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(storage.space(Path::new("/")).unwrap(), Space { free: 0, total: 1_000 });
    file.write_at(&[3; 1_000], 0).unwrap();
    assert_eq!(file.allocate(0, 1_001).unwrap_err().kind(), io::ErrorKind::StorageFull);
    drop(file);
    storage.remove(Path::new("/node/log/1")).unwrap();
    assert_eq!(storage.used(), 0);
}
