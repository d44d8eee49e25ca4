//! What is gone: a dataset that was dropped and created again.

use super::*;

/// The dataset as somebody dropped and created it again: one slice, with these settings.
fn made_anew(store: &Cassandra, end: Timestamp, settings: SliceSettings) {
    let record = SliceRecord::new(Timestamp::EPOCH, end, settings).unwrap();
    *store.table.lock().unwrap() = Table { slices: BTreeMap::from([(record.start, record)]), ..Table::default() };
}

#[tokio::test(start_paused = true)]
async fn a_dataset_that_was_dropped_and_created_again_is_written_by_the_settings_that_it_has_now() {
    let (clock, store) = (VirtualClock::new(), Cassandra::default());
    let process = process(&store, &clock, None).await;
    let settings = settings(Accuracy::Eventual);
    retention::create_ahead(&process.dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    process.service.serve([namespace("ns", &settings, &process.dataset, None)]);
    process.service.add_count("ns", "a", 1, ClientToken::default(), None).await.unwrap();
    let day = Duration::from_secs(86_400);
    made_anew(&store, clock.now().plus(day).rounded_up(day), limits(2, 1));
    let read = process.dataset.refresh_slices().await.unwrap();
    assert_eq!(process.dataset.slices(), read);
    seconds(60).await;
    // A rollup server that came later goes by the new limits: this might lie behind its boundary.
    let late = token("late", clock.now().minus(Duration::from_secs(4)));
    let refused = process.service.add_count("ns", "a", 1, late, None).await;
    assert!(matches!(refused, Err(Error::EventTimeOutOfRange { .. })), "{refused:?}");
    process.service.add_count("ns", "a", 7, ClientToken::default(), None).await.unwrap();
    seconds(30).await;
    // Another process, that never saw the old one.
    let (anew, _) = open("d", &store, &clock, None);
    anew.refresh().await.unwrap();
    aggregation::roll_up(&anew, None, &aggregation::ScanBudget::new(1_000), &counter("ns", "a")).await.unwrap();
    assert_eq!(rolled_up(&anew, &counter("ns", "a")).await, Some(7));
}

#[tokio::test(start_paused = true)]
async fn of_two_readings_of_the_slices_that_overtake_one_another_the_one_that_saw_more_stays() {
    let (clock, store) = (VirtualClock::new(), Cassandra::default());
    let process = process(&store, &clock, None).await;
    let settings = settings(Accuracy::Eventual);
    // It has read when there was nothing yet, and its answer takes a while.
    once(&process.hooks.slices_answer, || Box::pin(seconds(5)));
    let (slow, dataset) = (process.dataset.clone(), process.dataset.clone());
    let slow = tokio::spawn(async move { slow.refresh_slices().await });
    seconds(1).await;
    retention::create_ahead(&dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    let known = dataset.slices();
    assert!(!known.is_empty());
    assert!(slow.await.unwrap().unwrap().is_empty());
    assert_eq!(dataset.slices(), known);
}
