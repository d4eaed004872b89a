//! Properties of the planner, played to their end in a world without time: what is decided happens, at any pace.

use proptest::prelude::*;

use super::*;

/// Far above what any plan takes.
const STEPS_MAX: usize = 2_000;

fn node(number: u64) -> NodeId {
    NodeId(number)
}

prop_compose! {
    /// Nodes in a few zones, some of them leaving or out of reach, and shards placed on them without any wisdom.
    fn layouts()(
        nodes in prop::collection::vec((0..4u8, prop::bool::weighted(0.2), prop::bool::weighted(0.9)), 1..9),
        shards in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 1..5), 1..20),
        replication_factor in 1..5usize,
        phases in prop::collection::vec(0..10u8, 20),
    ) -> Layout {
        let sites = (1..).map(node).zip(nodes.iter().map(|(zone, is_leaving, is_reachable)| Site {
            zone: format!("zone-{zone}"),
            is_leaving: *is_leaving,
            is_reachable: *is_reachable,
        }));
        let record = |picks: &Vec<prop::sample::Index>, phase: u8| {
            let mut replicas = Vec::new();
            for pick in picks {
                let picked = node(pick.index(nodes.len()) as u64 + 1);
                if !replicas.contains(&picked) && replicas.len() < replication_factor {
                    replicas.push(picked);
                }
            }
            let phase = if phase == 0 { Phase::Moving } else { Phase::Settled };
            ShardRecord { replicas, leaving: Vec::new(), phase, version: 0 }
        };
        let shards = shards.iter().zip(phases).map(|(picks, phase)| record(picks, phase));
        Layout { sites: sites.collect(), shards: (1..).map(ShardId).zip(shards).collect(), replication_factor }
    }
}

/// Follows the plan to its end; each move is done before the next is planned. Returns how many steps that took.
fn follow(layout: &mut Layout, mut check: impl FnMut(&Layout, ShardId, &[NodeId])) -> usize {
    for record in layout.shards.values_mut() {
        record.phase = Phase::Settled;
    }
    for steps in 0..STEPS_MAX {
        let Some((shard, replicas)) = next_placement(layout) else { return steps };
        check(layout, shard, &replicas);
        layout.shards.get_mut(&shard).unwrap().replicas = replicas;
    }
    panic!("the plan does not end: {layout:?}");
}

fn pairs_in_a_zone(layout: &Layout) -> usize {
    layout
        .shards
        .values()
        .flat_map(|shard| shard.replicas.iter().map(|node| layout.neighbours(*node, &shard.replicas)))
        .sum()
}

proptest! {
    #[test]
    fn one_replica_moves_at_a_time_and_never_to_a_bad_place(layout in layouts()) {
        let mut layout = layout;
        follow(&mut layout, |layout, shard, replicas| {
            let before = set(&layout.shards[&shard].replicas);
            let after = set(replicas);
            assert_eq!(after.len(), replicas.len(), "no node twice");
            let (gone, come) = (before.difference(&after).count(), after.difference(&before).collect::<Vec<_>>());
            assert!(gone <= 1 && come.len() <= 1);
            assert!(come.iter().all(|node| !layout.sites[node].is_leaving && layout.sites[node].is_reachable));
            let wanted = layout.replication_factor.min(layout.staying().count());
            assert!(after.len() >= before.len().min(wanted), "{before:?} to {after:?}");
        });
    }

    #[test]
    fn a_plan_ends_with_every_replica_where_it_can_be(layout in layouts()) {
        let mut layout = layout;
        follow(&mut layout, |_, _, _| {});
        let wanted = layout.replication_factor.min(layout.staying().count());
        let receivers: Vec<_> = layout.receivers().collect();
        for (shard, record) in &layout.shards {
            let has_room = receivers.iter().any(|node| !record.replicas.contains(node));
            let is_left = record.replicas.iter().any(|node| !layout.stays(*node));
            prop_assert!(!is_left || !has_room, "{shard}: {record:?}");
            prop_assert!(record.replicas.len() >= wanted || !has_room, "{shard}: {record:?}");
            let is_crowded = record.replicas.iter().any(|node| layout.neighbours(*node, &record.replicas) > 0);
            let free = receivers.iter().find(|node| {
                !record.replicas.contains(node) && layout.neighbours(**node, &record.replicas) == 0
            });
            prop_assert!(!is_crowded || free.is_none(), "{shard}: {record:?} has room on {free:?}");
        }
    }

    #[test]
    fn in_one_zone_loads_are_even_at_the_end(layout in layouts()) {
        let mut layout = layout;
        for site in layout.sites.values_mut() {
            *site = Site { zone: "one".to_owned(), is_reachable: true, ..site.clone() };
        }
        follow(&mut layout, |_, _, _| {});
        let loads: Vec<_> = layout.staying().map(|node| layout.load(node)).collect();
        if let (Some(least), Some(most)) = (loads.iter().min(), loads.iter().max()) {
            prop_assert!(most - least <= 1, "{loads:?}");
        }
        for record in layout.shards.values() {
            let leads: Vec<_> = record.replicas.iter().map(|node| layout.leads(*node)).collect();
            prop_assert!(leads.iter().all(|others| leads[0] <= others + 1), "{leads:?}");
        }
    }

    #[test]
    fn balancing_never_brings_replicas_together(layout in layouts()) {
        let mut layout = layout;
        layout.sites.values_mut().for_each(|site| (site.is_leaving, site.is_reachable) = (false, true));
        follow(&mut layout, |layout, shard, replicas| {
            let mut after = layout.clone();
            let grows = replicas.len() > layout.shards[&shard].replicas.len();
            after.shards.get_mut(&shard).unwrap().replicas = replicas.to_vec();
            assert!(grows || pairs_in_a_zone(&after) <= pairs_in_a_zone(layout));
        });
    }

    #[test]
    fn few_shards_move_at_a_time_and_a_move_to_a_leaving_node_is_turned(layout in layouts()) {
        let is_turned = |shard: &ShardRecord| shard.phase == Phase::Moving && shard.replicas.iter().any(|node| !layout.stays(*node));
        if let Some((shard, _)) = next_placement(&layout) {
            let moving = layout.shards.values().filter(|shard| shard.phase == Phase::Moving).count();
            prop_assert!(is_turned(&layout.shards[&shard]) || moving < plan::MOVES_MAX);
        }
    }

    #[test]
    fn meta_voters_are_odd_apart_and_stay(layout in layouts(), voters in prop::collection::btree_set(1..9u64, 0..6)) {
        let voters: BTreeSet<_> = voters.into_iter().map(node).collect();
        let chosen = meta_voters(&layout, &voters);
        prop_assert!(chosen.len() <= 2 || chosen.len() % 2 == 1, "{chosen:?}");
        prop_assert!(chosen.iter().all(|node| layout.stays(*node)));
        prop_assert!(chosen.iter().all(|node| voters.contains(node) || layout.sites[node].is_reachable));
        prop_assert_eq!(&meta_voters(&layout, &chosen), &chosen, "who was chosen stays chosen");
        // As many zones as possible.
        let zones = |nodes: &BTreeSet<NodeId>| nodes.iter().map(|node| layout.zone(*node)).collect::<BTreeSet<_>>().len();
        let candidates = layout.sites.iter().filter(|(node, site)| !site.is_leaving && (site.is_reachable || voters.contains(node)));
        let candidates: BTreeSet<_> = candidates.map(|(node, _)| *node).collect();
        prop_assert_eq!(zones(&chosen), zones(&candidates).min(chosen.len()));
    }
}

/// A group that does what its leader's step says, at once.
#[derive(Clone, Debug)]
struct World {
    group: Group,
    alive: BTreeSet<NodeId>,
    /// May be elected, but not be handed a leadership.
    unfit: Option<NodeId>,
}

impl World {
    fn start(voters: &BTreeSet<NodeId>, dead: Option<NodeId>, unfit: Option<NodeId>) -> Option<Self> {
        let alive: BTreeSet<_> = (1..10).map(node).filter(|node| Some(*node) != dead).collect();
        let leader = *voters.intersection(&alive).next()?;
        let caught_up = voters.intersection(&alive).copied().collect();
        let (voters, learners, heirs) = (vec![voters.clone()], BTreeSet::new(), BTreeSet::new());
        let mut world = Self { group: Group { leader, voters, learners, caught_up, heirs }, alive, unfit };
        world.find_heirs();
        Some(world)
    }

    fn find_heirs(&mut self) {
        let heirs = self.group.caught_up.iter().copied().filter(|node| Some(*node) != self.unfit);
        self.group.heirs = heirs.collect();
    }

    fn voters(&self) -> BTreeSet<NodeId> {
        self.group.voters.iter().flatten().copied().collect()
    }

    fn has_quorum(&self) -> bool {
        self.group.voters.iter().all(|voters| voters.intersection(&self.alive).count() * 2 > voters.len())
    }

    /// Takes the step, or its first half when `is_cut`; `false`: there was none.
    fn take(&mut self, step: Step, is_cut: bool) -> bool {
        match step {
            Step::Settled => return false,
            Step::Wait => {
                let learners = self.group.learners.intersection(&self.alive);
                let next = learners.copied().find(|node| !self.group.caught_up.contains(node));
                match next {
                    Some(next) => drop(self.group.caught_up.insert(next)),
                    None if self.unfit.is_none() => return false,
                    None => self.unfit = None,
                }
                self.find_heirs();
            }
            Step::FinishChange => {
                let last = self.group.voters.pop().unwrap();
                let gone: Vec<_> = self.voters().difference(&last).copied().collect();
                self.group.learners.extend(gone);
                self.group.learners.retain(|node| !last.contains(node));
                if !last.contains(&self.group.leader) {
                    self.group.leader = *last.intersection(&self.group.caught_up).next().unwrap();
                }
                self.group.voters = vec![last];
            }
            Step::AddLearner(learner) => assert!(self.group.learners.insert(learner)),
            Step::RemoveLearner(learner) => assert!(self.group.learners.remove(&learner)),
            Step::HandOver(to) => {
                assert!(self.voters().contains(&to) && self.group.heirs.contains(&to));
                self.group.leader = to;
            }
            Step::SetVoters(voters) => {
                assert!(voters.contains(&self.group.leader), "a leader never takes its own vote away");
                self.group.voters.push(voters);
                if !is_cut {
                    return self.take(Step::FinishChange, false);
                }
            }
        }
        true
    }
}

fn voter_sets() -> impl Strategy<Value = BTreeSet<NodeId>> {
    prop::collection::btree_set((1..10u64).prop_map(node), 1..6)
}

proptest! {
    #[test]
    fn a_group_reaches_its_goal_whoever_leads_and_wherever_it_was_cut(
        voters in voter_sets(),
        wanted in voter_sets(),
        learners in prop::collection::btree_set((1..10u64).prop_map(node), 0..3),
        dead in prop::option::of((1..10u64).prop_map(node)),
        unfit in prop::option::of((1..10u64).prop_map(node)),
        cuts in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 40),
    ) {
        // A node that is dead may be replaced, but can not come in.
        let dead = dead.filter(|dead| !wanted.contains(dead) && voters.len() > 2);
        let goal = Goal { learners: learners.into_iter().filter(|node| !wanted.contains(node) && Some(*node) != dead).collect(), voters: wanted };
        let Some(mut world) = World::start(&voters, dead, unfit) else { return Ok(()) };
        let live = |world: &World, voters: &BTreeSet<NodeId>| voters.intersection(&world.alive).count();
        let least = live(&world, &voters).min(goal.voters.len());
        let mut cuts = cuts.into_iter();
        let mut steps = 0;
        loop {
            let step = next_step(&world.group, &goal);
            let cut = cuts.next().filter(|(is_cut, _)| *is_cut);
            if !world.take(step, cut.is_some()) {
                break;
            }
            prop_assert!(world.has_quorum(), "{world:?}");
            prop_assert!(world.group.voters.iter().all(|voters| live(&world, voters) >= least), "{world:?}");
            if let Some((_, successor)) = cut {
                // Another one leads on, from what it finds.
                let electable: Vec<_> = world.voters().intersection(&world.group.caught_up).copied().collect();
                world.group.leader = *successor.get(&electable);
            }
            steps += 1;
            prop_assert!(steps < 200, "{world:?} does not reach {goal:?}");
        }
        prop_assert_eq!(&world.group.voters, &vec![goal.voters.clone()]);
        prop_assert_eq!(&world.group.learners, &goal.learners);
    }
}

#[test]
fn a_dead_voter_is_replaced_before_a_live_one() {
    let voters: BTreeSet<_> = [1, 2, 3].map(node).into();
    let caught_up: BTreeSet<_> = [1, 2, 4].map(node).into();
    let heirs = caught_up.clone();
    let group = Group { leader: node(1), voters: vec![voters], learners: [node(4)].into(), caught_up, heirs };
    let goal = Goal::replicas(&[1, 4].map(node));
    assert_eq!(next_step(&group, &goal), Step::SetVoters([1, 2, 4].map(node).into()));
}

#[test]
fn a_leader_that_is_to_go_waits_for_a_voter_that_may_lead() {
    let voters: BTreeSet<_> = [1, 2, 3].map(node).into();
    let (caught_up, heirs) = (voters.clone(), [1, 3].map(node).into());
    let mut group = Group { leader: node(1), voters: vec![voters], learners: BTreeSet::new(), caught_up, heirs };
    let goal = Goal::replicas(&[2, 3].map(node));
    assert_eq!(next_step(&group, &goal), Step::HandOver(node(3)));
    group.heirs.remove(&node(3));
    assert_eq!(next_step(&group, &goal), Step::Wait);
}
