//! Many runs at once.

use std::process::Stdio;

use crate::scene::{CLAIM, Scene, said};

/// How many.
const RUNS: usize = 20;

#[test]
fn twenty_runs_at_once_all_come_to_their_end() {
    let scene = Scene::new();
    let runs: Vec<_> = (0..RUNS)
        .map(|_| {
            let mut lab = scene.lab(&["--quiet", "run", CLAIM]);
            lab.stdout(Stdio::piped()).stderr(Stdio::piped());
            lab.spawn().unwrap()
        })
        .collect();
    let mut nr_good = 0;
    for run in runs {
        let output = run.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert!(
            said(&output).contains("1 claims planned, 1 run"),
            "{}",
            said(&output)
        );
        nr_good += 1;
    }
    assert_eq!(nr_good, RUNS);
    scene.assert_nothing_left();
    scene.assert_content();
    scene.assert_works(&["run", CLAIM]);
}
