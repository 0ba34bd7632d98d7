use super::Clock;
use std::time::Duration;
use tokio::time::{Instant, advance, sleep};

const TICK: Duration = Duration::from_millis(10);

async fn slept(clock: &mut Clock) -> Duration {
    let began = Instant::now();
    clock.due().await;
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn an_idle_node_sleeps_through_ticks_and_counts_them_afterwards() {
    let mut clock = Clock::new(TICK);
    clock.plan(0);
    assert_eq!((slept(&mut clock).await, clock.passed(Instant::now())), (TICK, 1));
    clock.plan(9);
    assert_eq!((slept(&mut clock).await, clock.passed(Instant::now())), (10 * TICK, 10));
    clock.plan(u64::MAX);
    assert_eq!((slept(&mut clock).await, clock.passed(Instant::now())), (16 * TICK, 16));
}

#[tokio::test(start_paused = true)]
async fn what_comes_meanwhile_finds_the_ticks_counted() {
    let mut clock = Clock::new(TICK);
    clock.plan(9);
    sleep(TICK * 34 / 10).await;
    assert_eq!((clock.passed(Instant::now()), clock.passed(Instant::now())), (3, 0));
    // The next tick is due when it would have been.
    clock.plan(0);
    assert_eq!((slept(&mut clock).await, clock.passed(Instant::now())), (TICK * 6 / 10, 1));
}

#[tokio::test(start_paused = true)]
async fn ticks_that_were_missed_are_not_made_up_for() {
    let mut clock = Clock::new(TICK);
    clock.plan(2);
    advance(100 * TICK).await;
    assert_eq!(clock.passed(Instant::now()), 3);
    assert_eq!(clock.passed(Instant::now()), 0);
    clock.plan(0);
    assert_eq!((slept(&mut clock).await, clock.passed(Instant::now())), (TICK, 1));
}

#[tokio::test(start_paused = true)]
async fn ticks_that_pass_within_a_turn_are_missed_but_for_one() {
    let mut clock = Clock::new(TICK);
    assert_eq!(clock.passed(Instant::now()), 0);
    advance(10 * TICK).await;
    clock.taken_in(Instant::now());
    clock.plan(7);
    assert_eq!(clock.passed(Instant::now()), 1);
    // Short turns miss nothing.
    advance(TICK / 2).await;
    clock.taken_in(Instant::now());
    advance(TICK / 2).await;
    assert_eq!(clock.passed(Instant::now()), 1);
}
