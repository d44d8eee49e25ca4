//! Tallyman on a real node, installed by its charts, used by pods: each scenario is what somebody does and sees.
//!
//! All share one cluster, which is started for the first and ended after the last; each has Kubernetes namespaces of its own, and
//! those that disturb what is shared run alone. After a failure, what matters of the cluster is printed.

#![allow(clippy::unwrap_used, reason = "a panic is how a scenario fails")]

mod application;
mod changes;
mod deletion;
mod examples;
mod faults;
mod flights;
mod footprint;
mod gitops;
mod isolation;
mod restart;
mod tally;
mod upgrade;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;

use futures::FutureExt;
use libtest_mimic::{Arguments, Failed, Trial};
use tallyman_e2e::site::Site;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// At the same time: their pods share the machine's cores.
const SCENARIOS_AT_ONCE: usize = 3;

/// Whether others may run beside a scenario.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Company {
    Welcome,
    /// It disturbs what all share, or would be disturbed by what others ask of it.
    Unwelcome,
}

type Running<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// A scenario, by the name of its area.
struct Scenario {
    area: &'static str,
    name: &'static str,
    company: Company,
    run: for<'a> fn(&'a Site) -> Running<'a>,
}

macro_rules! scenarios {
    ($($area:literal $company:ident: $module:ident :: $name:ident,)*) => {
        &[$(Scenario {
            area: $area,
            company: Company::$company,
            name: concat!(stringify!($module), "::", stringify!($name)),
            run: |site| Box::pin($module::$name(site)),
        }),*]
    };
}

const SCENARIOS: &[Scenario] = scenarios![
    "flights" Welcome: flights::pods_count_flights_into_counters_of_all_three_types,
    "restart" Welcome: restart::no_add_is_lost_or_doubled_when_an_application_is_rolled,
    "changes" Welcome: changes::rollup_servers_and_settings_change_while_an_application_counts,
    "pods-gone" Welcome: faults::counts_are_right_after_pods_of_cache_and_rollup_are_deleted,
    "stores-gone" Unwelcome: faults::counts_are_right_after_cassandra_restarts_and_the_operator_was_away,
    "isolation-a" Welcome: isolation::nobody_reaches_the_counters_of_another_namespace,
    "images" Welcome: footprint::images_are_small_and_have_neither_shell_nor_package_manager,
    "footprint" Welcome: footprint::a_sidecar_at_rest_takes_little_memory,
    "pod-start" Unwelcome: footprint::how_much_later_a_pod_is_ready_for_its_sidecar,
    "shop" Unwelcome: examples::the_development_overlay_counts_in_three_languages,
    "deletion" Welcome: deletion::counts_outlive_their_declaration_unless_it_says_otherwise,
    "gitops" Unwelcome: gitops::argo_cds_engine_keeps_counters_as_git_says_and_their_health_is_told_right,
    "upgrade" Unwelcome: upgrade::an_upgrade_restarts_the_operator_alone_until_it_is_asked_for_more_and_no_add_is_lost,
];

/// What the scenarios run on. The first opens the site and installs what all need.
struct Stage {
    runtime: Runtime,
    site: OnceCell<Site>,
    installed: OnceCell<()>,
    /// Whether all scenarios are played.
    is_whole: bool,
}

impl Stage {
    fn play(&self, scenario: &Scenario) -> Result<(), Failed> {
        self.runtime.block_on(async {
            let open = AssertUnwindSafe(self.site.get_or_init(|| Site::open(self.is_whole))).catch_unwind();
            let site = open.await.map_err(|_| "the site could not be opened")?;
            let installed = AssertUnwindSafe(self.installed.get_or_init(|| site.install())).catch_unwind().await;
            // Until it is cleaned up: those who want no company do not want its leftovers either.
            let (_peace, _alone);
            match scenario.company {
                Company::Welcome => _peace = site.in_peace().await,
                Company::Unwelcome => _alone = site.alone().await,
            }
            let play = async {
                assert!(installed.is_ok(), "Tallyman could not be installed");
                let started = Instant::now();
                (scenario.run)(site).await;
                println!("{} took {:.0} s", scenario.name, started.elapsed().as_secs_f64());
            };
            if AssertUnwindSafe(play).catch_unwind().await.is_err() {
                eprintln!("{}: what matters of the cluster:\n{}", scenario.name, site.report(scenario.area).await);
                // It may have been amid something that the others count on.
                let restored = AssertUnwindSafe(site.install()).catch_unwind().await;
                site.close(scenario.area).await;
                return Err(if restored.is_ok() { "see above" } else { "see above; the site is not as it was" }.into());
            }
            site.close(scenario.area).await;
            Ok(())
        })
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(SCENARIOS_AT_ONCE);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let is_whole = arguments.filter.is_none();
    let stage = Arc::new(Stage { runtime, site: OnceCell::new(), installed: OnceCell::new(), is_whole });
    // A scenario's own words; where in the machinery it was says nothing more.
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let trial = |scenario: &'static Scenario| {
        let stage = Arc::clone(&stage);
        // Takes a node, and minutes: cargo xtask test.
        Trial::test(scenario.name, move || stage.play(scenario)).with_ignored_flag(true)
    };
    let conclusion = libtest_mimic::run(&arguments, SCENARIOS.iter().map(trial).collect());
    // Before we exit, the cluster has to end.
    drop(stage);
    conclusion.exit_code()
}
