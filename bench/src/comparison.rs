//! Rounds of measurements side by side, and what they amount to: ratios in which more than 1 always means that ours is
//! better.

use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::measurement::{Contender, Measurement, Span};
use crate::usage::CpuTimes;

/// Which values are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Rates.
    Higher,
    /// Times and sizes.
    Lower,
}

/// The result of comparing a subject with one peer; its fields are those of a line of `--json`.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    pub scenario: String,
    pub subject: String,
    pub peer: String,
    pub subject_value: f64,
    pub peer_value: f64,
    pub unit: &'static str,
    pub ratio: f64,
    pub ratio_min: f64,
    pub ratio_max: f64,
    pub rounds: usize,
    pub goal: Option<f64>,
    pub met: Option<bool>,
    #[serde(skip)]
    pub subject_detail: Detail,
    #[serde(skip)]
    pub peer_detail: Detail,
}

/// What the table shows beside the value.
#[derive(Debug, Clone, Default)]
pub struct Detail {
    /// Latencies of all rounds, in microseconds.
    pub latency: Option<Histogram<u64>>,
    /// CPU time that each process spent on an operation, the median of the rounds.
    pub cpu: CpuTimes,
}

/// A peer and, where there is one, the ratio to reach beside it.
pub struct Peer {
    pub contender: Box<dyn Contender>,
    pub goal: Option<f64>,
}

/// How often each contender is measured.
#[derive(Debug, Clone, Copy)]
pub struct Rounds {
    /// Rounds that do not count: the Java machine compiles what it runs often.
    pub warm_up: usize,
    /// Rounds that count; at least one.
    pub counted: usize,
}

/// Measures the subject and each peer once a round, in turn, and verifies all of them in the end.
pub async fn compare(
    scenario: &str,
    unit: &'static str,
    rounds: Rounds,
    span: Span,
    subject: &mut dyn Contender,
    peers: &mut [Peer],
) -> Result<Vec<Comparison>> {
    let mut ours = Vec::with_capacity(rounds.counted);
    let mut theirs: Vec<Vec<Measurement>> = peers.iter().map(|_| Vec::with_capacity(rounds.counted)).collect();
    for warm_up in 1..=rounds.warm_up {
        let label = format!("warm-up {warm_up}");
        measure(scenario, &label, unit, subject, span).await?;
        for peer in peers.iter_mut() {
            measure(scenario, &label, unit, &mut *peer.contender, span).await?;
        }
    }
    for round in 1..=rounds.counted {
        let label = format!("round {round}");
        ours.push(measure(scenario, &label, unit, subject, span).await?);
        for (peer, measurements) in peers.iter_mut().zip(&mut theirs) {
            measurements.push(measure(scenario, &label, unit, &mut *peer.contender, span).await?);
        }
    }
    verify(scenario, subject).await?;
    for peer in peers.iter_mut() {
        verify(scenario, &mut *peer.contender).await?;
    }
    let name = subject.name();
    let comparisons = peers.iter().zip(theirs).map(|(peer, theirs)| {
        judge(scenario, [&name, &peer.contender.name()], unit, Better::Higher, [&ours, &theirs], peer.goal)
    });
    Ok(comparisons.collect())
}

async fn verify(scenario: &str, contender: &mut dyn Contender) -> Result<()> {
    let name = contender.name();
    contender.verify().await.with_context(|| format!("{scenario}: {name} does not hold what it acknowledged"))
}

async fn measure(
    scenario: &str,
    round: &str,
    unit: &str,
    contender: &mut dyn Contender,
    span: Span,
) -> Result<Measurement> {
    let name = contender.name();
    let measurement = contender.measure(span).await.with_context(|| format!("{scenario}: {name} failed in {round}"))?;
    eprintln!("{scenario} {round}: {name} {:.0} {unit}", measurement.value);
    Ok(measurement)
}

/// Compares two series of measurements, round by round. Both have the same, positive number of rounds.
pub fn judge(
    scenario: &str,
    [subject, peer]: [&str; 2],
    unit: &'static str,
    better: Better,
    [ours, theirs]: [&[Measurement]; 2],
    goal: Option<f64>,
) -> Comparison {
    let values = |measurements: &[Measurement]| measurements.iter().map(|one| one.value).collect::<Vec<_>>();
    let (ours_by_round, theirs_by_round) = (values(ours), values(theirs));
    let ratios: Vec<f64> = ours_by_round
        .iter()
        .zip(&theirs_by_round)
        .map(|(ours, theirs)| match better {
            Better::Higher => ours / theirs,
            Better::Lower => theirs / ours,
        })
        .collect();
    let ratio = median(&ratios);
    Comparison {
        scenario: scenario.to_owned(),
        subject: subject.to_owned(),
        peer: peer.to_owned(),
        subject_value: median(&ours_by_round),
        peer_value: median(&theirs_by_round),
        unit,
        ratio,
        ratio_min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
        ratio_max: ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        rounds: ratios.len(),
        goal,
        met: goal.map(|goal| ratio >= goal),
        subject_detail: detail(ours),
        peer_detail: detail(theirs),
    }
}

fn detail(measurements: &[Measurement]) -> Detail {
    let mut latency: Option<Histogram<u64>> = None;
    for one in measurements.iter().filter_map(|one| one.latency.as_ref()) {
        match &mut latency {
            Some(all) => all.add(one).expect("all histograms have the same bounds"),
            None => latency = Some(one.clone()),
        }
    }
    let names = measurements.first().map(|first| first.cpu.iter().map(|(name, _)| name)).into_iter().flatten();
    let of_process = |name: &String| {
        let used = measurements.iter().flat_map(|one| &one.cpu).filter(|(of, _)| of == name);
        Duration::from_secs_f64(median(&used.map(|(_, used)| used.as_secs_f64()).collect::<Vec<_>>()))
    };
    let cpu = names.map(|name| (name.clone(), of_process(name))).collect();
    Detail { latency, cpu }
}

/// The middle value, or the mean of the two middle ones.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[f64]) -> Vec<Measurement> {
        values.iter().map(|value| Measurement::of(*value)).collect()
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let (ours, theirs) = (series(&[10.0, 40.0, 30.0]), series(&[10.0, 20.0, 10.0]));
        let one = judge("s", ["a", "b"], "adds/s", Better::Higher, [&ours, &theirs], Some(2.5));
        assert_eq!((one.ratio, one.ratio_min, one.ratio_max, one.rounds), (2.0, 1.0, 3.0, 3));
        assert_eq!((one.subject_value, one.peer_value), (30.0, 10.0));
        assert_eq!(one.met, Some(false));
    }

    #[test]
    fn more_than_one_means_better_also_where_less_is_better() {
        let (ours, theirs) = (series(&[50.0, 25.0]), series(&[100.0, 100.0]));
        let one = judge("startup", ["a", "b"], "ms", Better::Lower, [&ours, &theirs], Some(1.0));
        assert_eq!((one.ratio, one.ratio_min, one.ratio_max), (3.0, 2.0, 4.0));
        assert_eq!(one.met, Some(true));
    }

    #[test]
    fn a_line_of_json_has_the_fields_that_tools_rely_on_and_no_others() {
        let (ours, theirs) = (series(&[1.0]), series(&[2.0]));
        let one = judge("rollup", ["a", "b"], "events/s", Better::Higher, [&ours, &theirs], None);
        assert_eq!(
            serde_json::to_string(&one).unwrap(),
            "{\"scenario\":\"rollup\",\"subject\":\"a\",\"peer\":\"b\",\"subject_value\":1.0,\"peer_value\":2.0,\
             \"unit\":\"events/s\",\"ratio\":0.5,\"ratio_min\":0.5,\"ratio_max\":0.5,\"rounds\":1,\"goal\":null,\
             \"met\":null}"
        );
    }
}
