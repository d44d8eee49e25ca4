//! What is gone: a dataset that was dropped and created again, a rollup server that does not come back.

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

#[tokio::test(start_paused = true)]
async fn what_is_in_the_share_of_a_server_that_does_not_come_back_is_found_by_the_others() {
    let (clock, store) = (VirtualClock::new(), Cassandra::default());
    let process = process(&store, &clock, None).await;
    let mut settings = settings(Accuracy::Eventual);
    settings.rollup_endpoints = ["r-0.rollup:1", "r-1.rollup:1", "r-2.rollup:1"].map(str::to_owned).to_vec();
    retention::create_ahead(&process.dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    let namespaces = [namespace("ns", &settings, &process.dataset, None)];
    process.service.serve(namespaces.clone());
    // Every rollup event is lost, with the server that had them.
    let server = RollupServer::new(Options::new("r-0"));
    server.serve(namespaces).await;
    while_swept(&server, async {
        for i in 0..60 {
            process.service.add_count("ns", &i.to_string(), 1, ClientToken::default(), None).await.unwrap();
        }
        // Two others, each in its turn, after what could still be its owner's.
        seconds(60 + 2 * 60 + 60).await;
    })
    .await;
    let mut missing = 0;
    for i in 0..60 {
        missing += usize::from(rolled_up(&process.dataset, &counter("ns", &i.to_string())).await != Some(1));
    }
    assert_eq!(missing, 0, "counters that nobody looks for");
}

#[tokio::test(start_paused = true)]
async fn a_server_leaves_to_another_what_that_one_rolls_up_in_time() {
    let (clock, store) = (VirtualClock::new(), Cassandra::default());
    let process = process(&store, &clock, None).await;
    let mut settings = settings(Accuracy::Eventual);
    settings.rollup_endpoints = ["r-0.rollup:1", "r-1.rollup:1"].map(str::to_owned).to_vec();
    retention::create_ahead(&process.dataset, settings.time_partition, retention::Ahead::USUAL).await.unwrap();
    let namespaces = [namespace("ns", &settings, &process.dataset, None)];
    process.service.serve(namespaces.clone());
    let servers = ["r-0", "r-1"].map(|name| RollupServer::new(Options::new(name)));
    for server in &servers {
        server.serve(namespaces.clone()).await;
    }
    let written = async {
        for i in 0..600 {
            process.service.add_count("ns", &(i % 60).to_string(), 1, ClientToken::default(), None).await.unwrap();
            seconds(1).await;
        }
    };
    while_swept(&servers[0], while_swept(&servers[1], written)).await;
    let duplicates: u64 = servers.iter().map(|server| server.statistics().duplicates).sum();
    assert_eq!(duplicates, 0);
}
