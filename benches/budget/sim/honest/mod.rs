//! Honest agents: what each kind of run does on an ordinary and on a bad day.
//!
//! Rates are above what is usual, so that a day here stands for a worse day than a real one. Called
//! by `group`. `internet` holds what runs do outside, `inside` what they do in the cluster, `hard`
//! the strata that are known to look most like a scan. No profile may be softened so that the
//! engine passes: where it fails, docs/error-budget.md says so.

mod hard;
mod inside;
mod internet;

use super::pod::Pod;
use super::random::Random;

/// One kind of honest run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// Health checks, metrics, a few dependencies.
    Quiet,
    /// Package installs and git clones.
    Installer,
    /// Models and data sets, in parallel from many addresses of one name.
    Downloader,
    /// Follows links, 5 to 30 % of them dead.
    Crawler,
    /// Follows the hosts of one large site.
    OneSite,
    /// An object store with many addresses behind one name, which a firewall drops on some days.
    ObjectStore,
    /// MCP and websocket sessions, tool calls, SSH.
    Tools,
    /// Many services, health checks, headless peers by address, rolling updates.
    Services,
    /// A dependency is dead for hours and every sibling retries.
    Retrier,
    /// Brokers that move, and reconnect storms.
    Queue,
    /// A primary that fails over, and load balancers that cannot be reached from inside.
    Database,
    /// Scrapes pods by address, some of them gone.
    Scraper,
    /// First contacts without names that fail by chance: success 0.55 to 0.95.
    Flaky,
    /// The edge of the null hypothesis: success exactly one half.
    NullEdge,
    /// Weights from peers on the Internet.
    Peers,
    /// A gang of workers that contact each other by address before all of them are up.
    Gang,
    /// A list of endpoints that went stale in a rollout, most of them never contacted before.
    Rollout,
    /// A browser on a network that drops QUIC.
    Browser,
    /// IPv6 addresses everywhere, and IPv6 packets vanish.
    BrokenV6,
    /// A sandbox whose policy denies nearly all that the agent tries.
    Walled,
    /// Passive FTP through a firewall that blocks the data ports.
    Ftp,
}

impl Profile {
    pub const ALL: [Self; 21] = [
        Self::Quiet,
        Self::Installer,
        Self::Downloader,
        Self::Crawler,
        Self::OneSite,
        Self::ObjectStore,
        Self::Tools,
        Self::Services,
        Self::Retrier,
        Self::Queue,
        Self::Database,
        Self::Scraper,
        Self::Flaky,
        Self::NullEdge,
        Self::Peers,
        Self::Gang,
        Self::Rollout,
        Self::Browser,
        Self::BrokenV6,
        Self::Walled,
        Self::Ftp,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Installer => "installer",
            Self::Downloader => "downloader",
            Self::Crawler => "crawler",
            Self::OneSite => "one-site",
            Self::ObjectStore => "object-store",
            Self::Tools => "tools",
            Self::Services => "services",
            Self::Retrier => "retrier",
            Self::Queue => "queue",
            Self::Database => "database",
            Self::Scraper => "scraper",
            Self::Flaky => "flaky",
            Self::NullEdge => "null-edge",
            Self::Peers => "peers",
            Self::Gang => "gang",
            Self::Rollout => "rollout",
            Self::Browser => "browser",
            Self::BrokenV6 => "broken-v6",
            Self::Walled => "walled",
            Self::Ftp => "ftp",
        }
    }

    /// Its share of the groups, in percent. The hard strata have far more than in any real cluster.
    const fn share(self) -> usize {
        match self {
            Self::Crawler => 12,
            Self::Flaky => 11,
            Self::Installer => 10,
            Self::Quiet | Self::Downloader | Self::Tools | Self::Services => 8,
            Self::NullEdge => 7,
            Self::Retrier => 5,
            Self::Queue | Self::Gang => 3,
            Self::Database
            | Self::Scraper
            | Self::Rollout
            | Self::Peers
            | Self::Browser
            | Self::BrokenV6
            | Self::Walled => 2,
            Self::Ftp | Self::OneSite | Self::ObjectStore => 1,
        }
    }

    /// Draws a profile by its share.
    pub fn draw(random: &mut Random) -> Self {
        let mut left = random.count(0, 99);
        for profile in Self::ALL {
            if left < profile.share() {
                return profile;
            }
            left -= profile.share();
        }
        Self::Quiet
    }

    /// Pods of a run of this kind.
    pub fn pod_count(self, random: &mut Random) -> usize {
        let sizes: &[usize] = match self {
            Self::Gang => &[8, 16, 32, 64],
            _ => &[1, 1, 1, 2, 4, 8, 16, 32, 64],
        };
        random.pick(sizes).copied().unwrap_or(1)
    }

    /// Plays the pod's life.
    pub fn play(self, pod: &mut Pod) {
        pod.background();
        match self {
            Self::Quiet => inside::quiet(pod),
            Self::Installer => internet::installer(pod),
            Self::Downloader => internet::downloader(pod),
            Self::Crawler => internet::crawler(pod),
            Self::OneSite => internet::one_site(pod),
            Self::ObjectStore => internet::object_store(pod),
            Self::Tools => internet::tools(pod),
            Self::Services => inside::services(pod),
            Self::Retrier => inside::retrier(pod),
            Self::Queue => inside::queue(pod),
            Self::Database => inside::database(pod),
            Self::Scraper => inside::scraper(pod),
            Self::Flaky => hard::flaky(pod),
            Self::NullEdge => hard::null_edge(pod),
            Self::Peers => internet::peers(pod),
            Self::Gang => hard::gang(pod),
            Self::Rollout => hard::rollout(pod),
            Self::Browser => hard::browser(pod),
            Self::BrokenV6 => hard::broken_v6(pod),
            Self::Walled => hard::walled(pod),
            Self::Ftp => hard::ftp(pod),
        }
    }
}
