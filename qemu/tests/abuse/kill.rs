//! SIGKILL at any moment: the lab cannot tidy up, and need not.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::scene::{CLAIM, Scene, paths_in};

/// How many runs are killed.
const KILLS: usize = 50;

/// What a run has to do beside booting, so that it can be killed in the middle of that.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// Nothing.
    Boot,
    /// To build the module.
    Module,
    /// To fetch and to make the kit.
    Kit,
}

impl Work {
    /// Removes what is to be made, and returns the arguments of the run.
    fn set_up(self, scene: &Scene) -> Vec<&'static str> {
        match self {
            Self::Boot => vec!["run", CLAIM],
            Self::Module => {
                let project = lab::layout::Layout::find().unwrap().project;
                for dir in paths_in(&project.join("target/lab")) {
                    // What is there may be what the run before was killed over.
                    let _ = fs::remove_dir_all(dir);
                }
                vec!["run", CLAIM]
            }
            Self::Kit => {
                for path in paths_in(&scene.cache) {
                    let name = path.file_name().unwrap().to_string_lossy();
                    if name.starts_with("kit-") && path.is_dir() {
                        fs::remove_dir_all(path).unwrap();
                    }
                }
                vec!["exec", "--tools", "--", "strace", "-V"]
            }
        }
    }
}

/// Waits for the end of a child for so long; `false` if it goes on.
fn ends_within(child: &Child, time: Duration) -> bool {
    let pid = Pid::from_raw(child.id().try_into().unwrap());
    let pid = rustix::process::Pid::from_raw(pid.as_raw()).unwrap();
    let flags = rustix::process::PidfdFlags::empty();
    let pidfd = rustix::process::pidfd_open(pid, flags).unwrap();
    let mut fds = [PollFd::new(
        std::os::fd::AsFd::as_fd(&pidfd),
        PollFlags::POLLIN,
    )];
    poll(&mut fds, PollTimeout::try_from(time).unwrap()).unwrap() > 0
}

#[test]
fn fifty_runs_that_are_killed_leave_nothing_and_the_next_one_works() {
    let scene = Scene::new();
    let wish = std::env::var("ABUSE_SEED").ok();
    let seed = wish.map_or_else(|| fastrand::u64(..), |wish| wish.parse().unwrap());
    println!("ABUSE_SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);

    // How long each kind takes if nobody disturbs it.
    let kinds = [Work::Boot, Work::Module, Work::Kit];
    let lengths = kinds.map(|work| {
        let args = work.set_up(&scene);
        let began = Instant::now();
        let output = scene.lab(&args).output().unwrap();
        assert!(
            output.status.success(),
            "{work:?}: {}",
            crate::scene::said(&output)
        );
        began.elapsed()
    });
    println!("undisturbed: {kinds:?} take {lengths:?}");

    let (mut nr_killed, mut nr_tries) = (0, 0);
    while nr_killed < KILLS {
        nr_tries += 1;
        assert!(
            nr_tries < 3 * KILLS,
            "{nr_killed} of {nr_tries} runs could be killed"
        );
        let kind = nr_tries % kinds.len();
        let args = kinds[kind].set_up(&scene);
        let moment = lengths[kind].mul_f64(rng.f64());
        let mut child = scene
            .lab(&args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let too_late = ends_within(&child, moment);
        if !too_late {
            // The lab alone, as `kill -9` and the kernel's killer for want of memory do.
            kill(
                Pid::from_raw(child.id().try_into().unwrap()),
                Signal::SIGKILL,
            )
            .unwrap();
        }
        child.wait().unwrap();
        println!(
            "{:?} after {moment:?}: {}",
            kinds[kind],
            if too_late { "over" } else { "killed" }
        );
        nr_killed += usize::from(!too_late);
        scene.assert_nothing_left();
        scene.assert_works(&args);
        if nr_tries % 10 == 0 {
            scene.assert_content();
        }
    }
    scene.assert_content();
    println!("{nr_killed} of {KILLS} kills survived, in {nr_tries} runs");
}
