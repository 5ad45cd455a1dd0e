"""Holds compose.yaml and docker/ against the binaries, the settings tables and the sources.

    compose.py BIN TEMP      BIN: folder of the built binaries; TEMP: an empty folder of this run's own

Every command of every service is run with --check and --print-config in the environment and with the
settings file that compose.yaml gives it, so a flag, a key or a value that a binary refuses is a finding; what
the binaries then say they would listen on, dial and read is compared between the services.  The secrets are
made by docker/setup, and Redis (where it is installed) is started with docker/redis.conf and asked
for what it must allow and what it must refuse.
"""

import fnmatch
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import yaml

BIN, TEMP = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
PROBLEMS = []
CHECKS = 0
USER = "65532"
SETTINGS_AT = "/etc/dagline/run.yaml"
SECRETS_AT = "/run/secrets"
PREFIX = "/usr/local"  # of `make install` in docker/Dockerfile
SERVICES = {  # service of compose.yaml -> binary, settings section, networks
    "store": ("dagline-store", "store", {"pipeline"}),
    "scorer": ("dagline-scorer", "scorer", {"pipeline", "rewards"}),
    "sampler": ("dagline-sampler", "sampler", {"pipeline"}),
    "trainer": ("dagline-trainer", "trainer", {"pipeline"}),
    "judge": ("dagline-shapes-judge", "judge", {"rewards"}),
}
SECRETS = {  # exactly what each one needs: its own pair, whom it dials, the allow-list where it listens
    "redis": {"redis.acl"},
    "store": {"store.key", "store.pub", "allow"},
    "scorer": {"scorer.key", "scorer.pub", "store.pub", "allow", "scorer.password"},
    "sampler": {"sampler.key", "sampler.pub", "store.pub", "scorer.pub"},
    "trainer": {"trainer.key", "trainer.pub", "store.pub", "trainer.password"},
    "judge": set(),
    "dagline": {"dagline.key", "dagline.pub", "store.pub"},
    "setup": set(),
}
ONE_SHOT = {"setup", "dagline"}
STATEFUL = {"redis": "replay", "store": "store", "sampler": "cache", "trainer": "cache"}  # service -> its volume
FORBIDDEN = ("ports", "container_name", "privileged", "cap_add", "devices", "pid", "ipc", "userns_mode", "env_file")


def check(holds, message):
    global CHECKS
    CHECKS += 1
    if not holds:
        PROBLEMS.append(message)
    return holds


def model_is_here():
    """Without the embedded model (`make pretrain`) what is said about it cannot be checked; STRICT=1 insists."""
    return os.path.isdir("models/shapes") or os.environ.get("STRICT") == "1"


def expand(value, variables):
    """The ${NAME}, ${NAME:-default} and ${NAME:?message} of Compose, in every string of a tree."""
    if isinstance(value, dict):
        return {k: expand(v, variables) for k, v in value.items()}
    if isinstance(value, list):
        return [expand(v, variables) for v in value]
    if not isinstance(value, str):
        return value

    def one(match):
        name, kind, rest = match.group(1), match.group(2), match.group(3)
        if name in variables:
            return variables[name]
        check(kind == ":-", f"variable {name} has no default")
        return rest or ""

    return re.sub(r"\$\{([A-Z_]+)(?:(:-|:\?)([^}]*))?\}", one, value)


def read_yaml(path, variables):
    with open(path, encoding="utf-8") as f:
        return expand(yaml.safe_load(f), variables)


def merge(base, other):
    """What Compose makes of two files: mappings are united, lists joined, the rest replaced."""
    if isinstance(base, dict) and isinstance(other, dict):
        return {k: merge(base[k], other[k]) if k in base and k in other else base.get(k, other.get(k))
                for k in [*base, *(k for k in other if k not in base)]}
    if isinstance(base, list) and isinstance(other, list):
        return base + other
    return other


def size_bytes(text):
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", str(text).lower())
    return int(float(match.group(1)) * 1024 ** " kmgt".index(match.group(2) or " ")) if match else 0


def seconds(text):
    match = re.fullmatch(r"(\d+)(ms|s|m|h)", str(text))
    return int(match.group(1)) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[match.group(2)] if match else 0


def run(arguments, environment=None, **options):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("DAGLINE_")}
    return subprocess.run(
        arguments,
        env={**clean, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def binary(name):
    path = os.path.join(BIN, name)
    return path if check(os.access(path, os.X_OK), f"{path} is not built") else None


def sources_of(service):
    """Where each thing mounted into a service comes from: target -> what."""
    found = {}
    for c in service.get("configs", []):
        found[c["target"]] = ("config", c["source"])
    for s in service.get("secrets", []):
        found[f"{SECRETS_AT}/{s}"] = ("secret", s)
    for v in service.get("volumes", []):
        source, target = v.split(":")[:2]
        found[target] = ("volume", source)
    return found


# ---- every service ---------------------------------------------------------------------------------


def check_hardening(name, s):
    def need(holds, what):
        check(holds, f"services.{name}: {what}")

    need(s.get("user") == f"{USER}:{USER}", f"user is not the number {USER}")
    need(s.get("read_only") is True, "read_only is not true")
    need(s.get("cap_drop") == ["ALL"], "cap_drop is not [ALL]")
    need(s.get("security_opt") == ["no-new-privileges:true"], "security_opt is not [no-new-privileges:true]")
    tmpfs = s.get("tmpfs") or []
    need(len(tmpfs) > 0, "no tmpfs")
    for t in tmpfs:
        options = t.partition(":")[2].split(",")
        need({"noexec", "nosuid", "nodev"} <= set(options) and any(o.startswith("size=") for o in options),
             f"tmpfs {t} is not bounded, or not noexec, nosuid and nodev")
    need(0 < int(s.get("pids_limit") or 0) <= 1024, "no pids_limit")
    need(size_bytes(s.get("mem_limit", "")) > 0, "no mem_limit")
    need(float(s.get("cpus") or 0) > 0, "no cpus")
    limits = s.get("ulimits") or {}
    need(limits.get("core") == 0, "ulimits.core is not 0")
    need(int(limits.get("nofile") or 0) >= 1024, "ulimits.nofile is not set")
    need(s.get("init") is True, "init is not true")
    log = s.get("logging") or {}
    need({"max-size", "max-file"} <= set(log.get("options") or {}), "logging has no max-size and max-file")
    need(s.get("restart") == ("no" if name in ONE_SHOT else "on-failure"), f"restart is {s.get('restart')}")
    need(seconds(s.get("stop_grace_period", "")) >= 30, "stop_grace_period is shorter than 30 s")
    for key in FORBIDDEN:
        need(key not in s, f"{key} is not allowed")
    need(s.get("network_mode") in (None, "none"), f"network_mode {s.get('network_mode')}")
    for target, (kind, source) in sources_of(s).items():
        need("docker.sock" not in source, "the engine's socket is mounted")
        need(target.startswith("/"), f"mount target {target} is not absolute")


def check_one(name, s, compose):
    check_hardening(name, s)
    networks = set(s.get("networks") or [])
    check(networks <= set(compose["networks"]), f"services.{name}: network not declared: {networks}")
    secrets = s.get("secrets") or []
    check(set(secrets) == SECRETS.get(name),
          f"services.{name}: secrets are {sorted(secrets)}, needed are {sorted(SECRETS.get(name) or [])}")
    for target, (kind, source) in sources_of(s).items():
        if kind == "volume" and source.startswith("."):
            check(name == "setup", f"services.{name}: mounts the folder {source} of the host")
        elif kind == "volume":
            check(source in compose["volumes"], f"services.{name}: volume {source} is not declared")
            check(STATEFUL.get(name) == source, f"services.{name}: volume {source} is not its own")
        else:
            check(source in compose[f"{kind}s"], f"services.{name}: {kind} {source} is not declared")
    for other, how in (s.get("depends_on") or {}).items():
        target = compose["services"].get(other)
        check(target is not None, f"services.{name}: depends on {other}, which is not there")
        check(how.get("condition") == "service_healthy", f"services.{name}: depends on {other} without its health")
        # an override puts another in the judge's place
        check(how.get("required", True) == (other != "judge"), f"services.{name}: depends on {other}: required")
    health = s.get("healthcheck") or {}
    if name in ONE_SHOT:
        check(s.get("profiles"), f"services.{name}: has no profile, so `up` would start it")
        check(health.get("disable") is True, f"services.{name}: a health check of what ends by itself")
    else:
        check("profiles" not in s, f"services.{name}: in a profile, so `up` would not start it")
        for key in ("interval", "timeout", "retries", "start_period"):
            check(health.get(key), f"services.{name}: healthcheck has no {key}")
        check(seconds(health.get("timeout", "")) > 5, f"services.{name}: the health check itself waits 5 s")
    build = s.get("build")
    if name in ("redis", "store"):
        check(build and build.get("dockerfile") == "docker/Dockerfile", f"services.{name}: not built from docker/Dockerfile")
        check(build and build.get("target") == ("redis" if name == "redis" else "services"), f"services.{name}: build target")
    else: # builds of one image by several services race for its tag
        check(build is None, f"services.{name}: builds an image that the store builds")
        check(s.get("image") == compose["services"]["store"]["image"], f"services.{name}: another image than the store's")


def effective(name, s, binary_path, arguments):
    """The settings that a service would run with, as its binary says; None where it refuses them."""
    # one without a value is passed on from the caller's
    environment = {k: str(v) for k, v in (s.get("environment") or {}).items() if v is not None}
    at = environment.get("DAGLINE_CONFIG")
    check(at == SETTINGS_AT and sources_of(s).get(at) == ("config", "run.yaml"),
          f"services.{name}: DAGLINE_CONFIG is not the mounted run.yaml")
    environment["DAGLINE_CONFIG"] = "docker/run.yaml"
    # the image's folders are not on this machine
    here = {f"DAGLINE_STORE__{key}": f"models/shapes{file}" for key, file in (("MODEL", ""), ("PROMPTS", "/prompts.jsonl"))}
    r = run([binary_path, *arguments, "--check"], environment | here)
    if not check(r.returncode == 0, f"services.{name}: {' '.join([*arguments, '--check'])}: {r.stdout.strip()}"):
        return None
    r = run([binary_path, *arguments, "--print-config"], environment)
    if not check(r.returncode == 0, f"services.{name}: --print-config: {r.stdout.strip()}"):
        return None
    return yaml.safe_load(r.stdout)


def check_flags(name, binary_path, arguments):
    r = run([binary_path, "--help"])
    check(r.returncode == 0, f"services.{name}: --help fails")
    for a in arguments:
        if a.startswith("--"):
            check(re.search(rf"^\s+{a}\b", r.stdout, re.M), f"services.{name}: {a} is not in --help")


def check_paths(name, s, settings, sections):
    """Every absolute path among the settings of the service's own sections is mounted or in the image."""
    mounted = sources_of(s)
    for section in sections:
        for key, value in (settings.get(section) or {}).items():
            value = str(value)
            if not value.startswith("/"):
                continue
            where = f"services.{name}: {section}.{key} = {value}"
            if value == SECRETS_AT:
                check(bool(s.get("secrets")), f"{where}, but no secret is mounted")
            elif value.startswith(SECRETS_AT + "/"):
                check(value in mounted, f"{where} is not among its secrets")
            elif value.startswith(PREFIX + "/share/dagline/"):
                inside = value[len(PREFIX + "/share/dagline/"):]
                check(os.path.exists(inside) or not model_is_here(), f"{where}: no {inside} here for `make install`")
            else:
                check(mounted.get(value, ("",))[0] == "volume", f"{where} is no volume: the root is read-only")


def check_service(name, s):
    want, section, networks = SERVICES[name]
    command = s.get("command") or [""]
    check(command[0] == want, f"services.{name}: command is {command[0]}, not {want}")
    check("--set" not in command, f"services.{name}: --set in its command, which `exec` does not see; use the environment")
    check(set(s["networks"]) == networks, f"services.{name}: networks are not {sorted(networks)}")
    path = binary(want)
    if path is None:
        return None
    check_flags(name, path, command[1:])
    settings = effective(name, s, path, command[1:])
    if settings is None:
        return None
    check_paths(name, s, settings, set(settings) - {"reward"} | {section})
    health = (s.get("healthcheck") or {}).get("test")
    check(health == ["CMD", want, "--healthcheck"], f"services.{name}: healthcheck is {health}")
    check(settings[section]["listen"], f"services.{name}: {section}.listen is empty, nothing answers the health check")
    environment = {"DAGLINE_CONFIG": "docker/run.yaml", f"DAGLINE_{section.upper()}__LISTEN": "127.0.0.1:1"}
    r = run([path, "--healthcheck"], environment)
    check(r.returncode == 1 and "127.0.0.1:1" in r.stdout, f"services.{name}: --healthcheck says {r.stdout.strip()}")
    return settings


# ---- between the services --------------------------------------------------------------------------


def port_of(endpoint):
    return str(endpoint).rpartition(":")[2]


def host_of(endpoint):
    return str(endpoint).rpartition("://")[2].rpartition(":")[0]


def check_ring(settings, compose):
    for name, dials in (("scorer", ("store", "news")), ("trainer", ("store", "news")),
                        ("sampler", ("store", "news", "scorer"))):
        for key in dials:
            owner = "scorer" if key == "scorer" else "store"
            if settings.get(name) is None or settings.get(owner) is None:
                continue
            dialled, bound = settings[name]["net"][key], settings[owner]["net"][key]
            check(dialled.startswith("tcp://") and host_of(dialled) == owner,
                  f"{name} dials {dialled} for net.{key}, not the service {owner}")
            check(host_of(bound) == "0.0.0.0" and port_of(bound) == port_of(dialled),
                  f"{owner} binds {bound}, {name} dials {dialled}")
            check(set(compose["services"][name]["networks"]) & set(compose["services"][owner]["networks"]),
                  f"{name} and {owner} share no network")
    for name, s in settings.items():
        if s is not None and "net" in s:
            check(s["net"]["keys"] == SECRETS_AT, f"services.{name}: net.keys is '{s['net']['keys']}'")
            check(str(s["net"]["insecure_plaintext"]).lower() in ("no", "false"), f"services.{name}: plaintext tcp")
    ports = [port_of(s[SERVICES[n][1]]["listen"]) for n, s in settings.items() if s is not None]
    check(len(set(ports)) == len(ports), f"two services have one listen port: {ports}")


def check_replay(settings, conf, compose):
    for name in ("scorer", "trainer"):
        if settings.get(name) is None:
            continue
        replay = settings[name]["replay"]
        check(host_of(replay["address"]) == "redis" and port_of(replay["address"]) == conf.get("port"),
              f"services.{name}: replay.address {replay['address']} is not redis:{conf.get('port')}")
        check(replay["user"] == name, f"services.{name}: replay.user is {replay['user']}")
        check(replay["password"] == f"{SECRETS_AT}/{name}.password", f"services.{name}: replay.password")
        maxmemory = size_bytes(conf.get("maxmemory", ""))
        check(size_bytes(replay["bytes_max"]) <= 0.7 * maxmemory, "replay.bytes_max is above 70 % of maxmemory")
        check(size_bytes(compose["services"]["redis"]["mem_limit"]) >= 2 * maxmemory,
              "services.redis: mem_limit is below twice maxmemory")
        check(size_bytes(conf.get("proto-max-bulk-len", "")) >= size_bytes(settings[name]["net"]["trajectory_max"]),
              "redis.conf: proto-max-bulk-len is below net.trajectory_max")
    both = [settings[n]["replay"] for n in ("scorer", "trainer") if settings.get(n)]
    if len(both) == 2:
        differ = [k for k in both[0] if both[0][k] != both[1][k] and k not in ("user", "password")]
        check(not differ, f"scorer and trainer see the replay by different rules: {differ}")


def check_sampler(settings, compose):
    """At its end a sampler waits for acknowledgements, twice the time after which it sends again (sampler.c)."""
    if settings.get("sampler"):
        grace = seconds(compose["services"]["sampler"]["stop_grace_period"])
        check(grace >= 2 * seconds(settings["sampler"]["sampler"]["resend"]) + 30,
              "services.sampler: stop_grace_period is not 30 s longer than twice sampler.resend")


def check_large_models(compose):
    """Stable Diffusion in float32, 4.3 GB: the store copies it at its first start, `dagline export` holds it."""
    patience = seconds(compose["services"]["store"]["healthcheck"]["start_period"])
    check(patience * 10e6 >= 4.3e9, "services.store: start_period is too short to copy a model of gigabytes")
    check(size_bytes(compose["services"]["dagline"]["mem_limit"]) >= 1.2 * 4.3e9,
          "services.dagline: mem_limit is too low to export a model of gigabytes")


def check_threads(compose):
    """What computes starts a thread for every CPU, where no quota is to be read up to the pool's maximum."""
    most = int(re.search(r"#define POOL_THREADS_MAX (\d+)", open("common/nn/pool.h", encoding="utf-8").read()).group(1))
    for name in ("scorer", "sampler", "trainer", "dagline"):
        check(int(compose["services"][name]["pids_limit"]) >= most + 32, f"services.{name}: pids_limit is below its threads")


def check_reward(settings, compose):
    scorer, judge = settings.get("scorer"), settings.get("judge")
    if scorer is None or judge is None:
        return
    url = scorer["reward"]["url"]
    check(url.startswith("http://judge:") and port_of(url) == port_of(judge["judge"]["listen"]),
          f"reward.url is {url}, the judge listens on {judge['judge']['listen']}")
    check(host_of(judge["judge"]["listen"]) == "0.0.0.0", "judge.listen is not reachable from the scorer")
    s = compose["services"]["scorer"]
    check(seconds(s["stop_grace_period"]) >= seconds(scorer["scorer"]["drain"]) + 10,
          "services.scorer: stop_grace_period is not 10 s longer than scorer.drain")
    check("judge" in s["depends_on"], "services.scorer: the judge would be stopped before it has answered")
    # Of each peer the inbox holds up to 4 trajectories, and one more arrives (common/wire/wire.c, WIRE_SCORER_INBOX).
    bound = size_bytes(scorer["scorer"]["budget"]) + int(scorer["scorer"]["peers"]) * 5 * size_bytes(
        scorer["net"]["trajectory_max"])
    check(size_bytes(s["mem_limit"]) >= 1.2 * bound, f"services.scorer: mem_limit is below 1.2 x its bound of {bound}")


def check_tool(s):
    path = binary("dagline")
    if path is None:
        return
    check(s.get("entrypoint") == ["dagline"], "services.dagline: entrypoint is not [dagline]")
    verb = (s.get("command") or [""])[0]
    r = run([path, "--help"])
    check(re.search(rf"^\s+{verb}\s", r.stdout, re.M), f"services.dagline: no verb '{verb}'")
    settings = effective("dagline", s, path, [verb])
    if settings is not None:
        check(settings["status"]["store"] == "tcp://store:7701", "services.dagline: does not dial the store")
        check(settings["status"]["keys"] == SECRETS_AT, "services.dagline: has no keys")
    for other in set(re.findall(r"^  (\w+) ", r.stdout, re.M)) - {verb, "reward"}:  # `reward` is the scorer's
        effective("dagline", s, path, [other])


def check_own_reward(compose):
    variables = {"REWARD_IMAGE": "image", "REWARD_MODEL": "mine"}
    other = read_yaml("docker/own-reward.yaml", variables)
    check(set(other["services"]) == {"judge", "scorer", "reward"}, "own-reward.yaml: not judge, scorer and reward")
    check(other["services"]["judge"].get("profiles"), "own-reward.yaml: the judge is started still")
    services = merge(compose, other)["services"]
    check(services["reward"].get("networks") == ["rewards"], "own-reward.yaml: reward is not on `rewards` alone")
    check_hardening("reward", {**services["reward"], "user": f"{USER}:{USER}"})  # the image has a user of its own
    path = binary("dagline-scorer")
    settings = effective("scorer", services["scorer"], path, services["scorer"]["command"][1:]) if path else None
    if settings is not None:
        check(settings["reward"]["url"] == "http://reward:8000" and settings["reward"]["model"] == "mine",
              "own-reward.yaml: the scorer asks another service")
    passed = services["scorer"]["environment"]
    check("DAGLINE_REWARD__BINARY" in passed and passed["DAGLINE_REWARD__BINARY"] is None,
          "own-reward.yaml: DAGLINE_REWARD__BINARY is not passed on, or stronger than run.yaml")


def check_several_hosts(compose, settings):
    ring = read_yaml("docker/ring-host.yaml", {"RING_ADDRESS": "10.0.0.5"})
    far = read_yaml("docker/sampler-host.yaml", {"RING_ADDRESS": "10.0.0.5"})
    check(set(ring["services"]) == {"store", "scorer"}, "ring-host.yaml: publishes more than store and scorer")
    check(set(far["services"]) == {"sampler"}, "sampler-host.yaml: not the sampler alone")
    published = [p for s in ring["services"].values() for p in s["ports"]]
    s = merge(compose, far)["services"]["sampler"]
    check("ports" not in s, "sampler-host.yaml: a scaled service publishes ports")
    for other in (ring, far):
        for name, part in other["services"].items():
            check(part["networks"] == ["hosts"] and "hosts" in other["networks"], f"{name}: is not on `hosts`")
    path = binary("dagline-sampler")
    mine = effective("sampler", s, path, s["command"][1:]) if path else None
    if mine is None:
        return
    dialled = [mine["net"][k] for k in ("store", "news", "scorer")]
    check(sorted(f"tcp://{p.rpartition(':')[0]}" for p in published) == sorted(dialled),
          f"sampler-host.yaml dials {dialled}, ring-host.yaml publishes {published}")
    for name in ("store", "scorer"):
        net = settings[name]["net"] if settings.get(name) else {}
        bound = {port_of(net.get(k)) for k in ("store", "news", "scorer")}
        for p in ring["services"][name]["ports"]:
            check(p.split(":")[1] == p.split(":")[2] and p.split(":")[2] in bound, f"ring-host.yaml: {name} has no {p}")


# ---- secrets, Redis, image --------------------------------------------------------------------------


def check_secrets(compose):
    """docker/setup makes exactly the files that compose.yaml mounts."""
    folder = os.path.join(TEMP, "secrets")
    path = os.environ["PATH"]
    for again in (False, True):
        r = run(["docker/setup", "--make", folder], {"PATH": f"{BIN}:{path}"})
        if not check(r.returncode == 0, f"docker/setup --make: {r.stdout.strip()}"):
            return None
        files = {f: open(os.path.join(folder, f), "rb").read() for f in os.listdir(folder)}
        if again:
            check(files == before, "docker/setup run again changes what was there")
        before = files
    declared = {name: s["file"] for name, s in compose["secrets"].items()}
    if not check(set(declared) == set(files),
                 f"docker/setup makes {sorted(files)}, compose.yaml mounts {sorted(declared)}"):
        return None
    for name, at in declared.items():
        check(at == f"./docker/secrets/{name}", f"secrets.{name}: file is {at}")
        mode = os.stat(os.path.join(folder, name)).st_mode & 0o777 if name in files else 0
        public = name.endswith(".pub") or name == "allow"
        check(public or mode == 0o400, f"docker/setup: {name} has mode {mode:o}")
    used = set().union(*(set(s.get("secrets") or []) for s in compose["services"].values()))
    check(used == set(declared), f"secrets that nobody uses: {sorted(set(declared) - used)}")
    setup = compose["services"]["setup"]
    check(setup["command"] == [f"{PREFIX}/share/dagline/setup/setup", "--make", "/secrets"], "services.setup: command")
    check(setup["volumes"] == ["./docker/secrets:/secrets"], "services.setup: volumes")
    return folder


def check_interrupted_setup():
    """docker/setup that is interrupted while the container writes leaves no folder that others may write to."""
    tree, tools = os.path.join(TEMP, "tree"), os.path.join(TEMP, "tools")
    shutil.copytree("docker", os.path.join(tree, "docker"), ignore=shutil.ignore_patterns("secrets"))
    os.mkdir(tools)
    with open(os.path.join(tools, "docker"), "w", encoding="utf-8") as f:
        f.write('#!/bin/sh\n[ "$2" != run ] || kill -INT $PPID\n')
    os.chmod(f.name, 0o755)
    # a background job of a shell without job control ignores SIGINT, and so would all that it starts
    r = run([os.path.join(tree, "docker/setup")], {"PATH": f"{tools}:{os.environ['PATH']}"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    mode = os.stat(os.path.join(tree, "docker/secrets")).st_mode & 0o7777
    check(r.returncode != 0 and mode == 0o700, f"docker/setup, interrupted: status {r.returncode}, its folder has mode {mode:o}")


def read_conf(path):
    conf = {}
    for line in open(path, encoding="utf-8"):
        word, _, rest = line.strip().partition(" ")
        if word and not word.startswith("#"):
            conf[word] = rest.strip()
    return conf


def commands_in(files):
    """The Redis commands that string literals of these sources begin with."""
    faults = {"OOM", "LOADING", "MISCONF", "BUSY", "READONLY", "MASTERDOWN", "TRYAGAIN", "NOREPLICAS", "CLUSTERDOWN", "ERR", "QUEUED", "OK"}
    found = set()
    for f in files:
        for word in re.findall(r'"([A-Z]{2,})(?=["% ])', open(f, encoding="utf-8").read()):
            if word not in faults:
                found.add(word.lower())
    return found


def acl_users(path):
    users = {}
    for line in open(path, encoding="utf-8"):
        words = line.split()
        if words[:1] == ["user"]:
            users[words[1]] = words[2:]
    return users


def check_acl():
    users = acl_users("docker/redis.acl")
    check(set(users) == {"default", "health", "scorer", "trainer"}, f"redis.acl: users are {sorted(users)}")
    check(users.get("default") == ["off"], "redis.acl: the default user is not off")
    check(users.get("health") == ["on", "nopass", "-@all", "+ping"], "redis.acl: health may do more than PING")
    replay = [f"common/replay/{f}" for f in os.listdir("common/replay") if f.endswith(".c")]
    for part in ("replay_batch.c", "replay_memo.c"):
        check(os.path.exists(f"common/replay/{part}"), f"{part}, used by one of the two alone, is not where it was")
    for name in ("scorer", "trainer"):
        rules = users.get(name) or []
        check(rules[:4] == ["on", f"#@{name}@", "~dagline:*", "-@all"], f"redis.acl: {name} begins {rules[:4]}")
        check(all(r.startswith("+") and "@" not in r for r in rules[4:]), f"redis.acl: {name} is allowed a class")
        allowed = {r[1:] for r in rules[4:]}
        others = "/replay_memo.c" if name == "trainer" else "/replay_batch.c"
        mine = [f for f in replay if not f.endswith(others)]
        used = commands_in(mine) - {"auth"}
        check(used == allowed, f"redis.acl: {name} uses but may not {sorted(used - allowed)}, "
                               f"may but does not use {sorted(allowed - used)}")
    return users


def check_conf(compose):
    conf = read_conf("docker/redis.conf")
    for key, value in {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "everysec",
                       "protected-mode": "yes", "aclfile": f"{SECRETS_AT}/redis.acl", "daemonize": "no",
                       "enable-debug-command": "no", "enable-module-command": "no",
                       "enable-protected-configs": "no"}.items():
        check(conf.get(key) == value, f"redis.conf: {key} is {conf.get(key)}, not {value}")
    for key in ("maxmemory", "maxclients", "proto-max-bulk-len", "client-query-buffer-limit"):
        check(conf.get(key), f"redis.conf: no {key}")
    s = compose["services"]["redis"]
    check(set(s["networks"]) == {"pipeline"}, "services.redis: is on another network than `pipeline`")
    check(s["command"] == ["redis-server", "/etc/dagline/redis.conf"], "services.redis: command")
    check(sources_of(s).get("/etc/dagline/redis.conf") == ("config", "redis.conf"), "services.redis: no redis.conf")
    check(sources_of(s).get(conf.get("dir")) == ("volume", "replay"), "redis.conf: dir is not the volume")
    test = s["healthcheck"]["test"]
    check(test[:2] == ["CMD", "redis-cli"] and test[-1] == "ping", "services.redis: healthcheck")
    return conf


def redis_checks(folder, users, compose):
    """The real server with the real ACL: what must work works, what must not does not."""
    socket, data = os.path.join(TEMP, "r.sock"), os.path.join(TEMP, "redis")
    os.mkdir(data)
    conf = os.path.join(TEMP, "redis.conf")  # the same but for the folder, which Redis enters as it reads
    with open(conf, "w", encoding="utf-8") as f:
        f.write(re.sub(r"^dir .*$", f"dir {data}", open("docker/redis.conf", encoding="utf-8").read(), flags=re.M))
    log = open(os.path.join(TEMP, "redis.log"), "w+", encoding="utf-8")
    server = subprocess.Popen(
        ["redis-server", conf, "--port", "0", "--unixsocket", socket, "--unixsocketperm", "700",
         "--aclfile", os.path.join(folder, "redis.acl")],
        stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def ask(user, password, *words):
        who = ["--user", user, "--pass", password] if user else []
        r = run(["redis-cli", "-s", socket, "--no-auth-warning", *who, *words])
        return r.stdout.strip()

    try:
        until = time.monotonic() + 20
        health = compose["services"]["redis"]["healthcheck"]["test"][2:]
        while run(["redis-cli", "-s", socket, *health]).returncode != 0:
            if server.poll() is not None or time.monotonic() > until:
                log.seek(0)
                return check(False, f"redis-server does not start with docker/redis.conf: {log.read()[-400:]}")
            time.sleep(0.02)
        passwords = {n: open(os.path.join(folder, f"{n}.password"), encoding="utf-8").read()
                     for n in ("scorer", "trainer")}
        check(ask(None, None, "PING").startswith("NOAUTH"), "Redis answers who has no name")
        for name, password in passwords.items():
            check(ask(name, password, "SET", "dagline:{x}:k", "1") == "OK", f"Redis refuses {name}")
            check("WRONGPASS" in ask(name, "wrong", "GET", "dagline:{x}:k"), f"Redis lets {name} in by any password")
            check(ask(name, password, "GET", "other").startswith("NOPERM"), f"{name} reads foreign keys")
            check("maxmemory_policy:noeviction" in ask(name, password, "INFO", "memory"), f"{name}: INFO memory")
            for words in (("CONFIG", "GET", "*"), ("EVAL", "return 1", "0"), ("FLUSHALL",), ("KEYS", "*"),
                          ("DEBUG", "SLEEP", "0"), ("SHUTDOWN",), ("ACL", "LIST"), ("MODULE", "LIST"), ("SAVE",),
                          ("REPLICAOF", "NO", "ONE"),
                          ("RESTORE", "dagline:k", "0", "x"), ("MONITOR",), ("EXPIRE", "dagline:k", "1"),
                          ("SCRIPT", "LOAD", "x"), ("CLIENT", "LIST"), ("FUNCTION", "LIST"), ("SCAN", "0")):
                answer = ask(name, password, *words)
                check(answer.startswith("NOPERM") or "not allowed" in answer, f"{name} may {words[0]}: {answer[:60]}")
            for rule in users[name][4:]:  # allowed: any answer but NOPERM, and the server knows the command
                answer = ask(name, password, rule[1:].upper())
                check(not answer.startswith(("NOPERM", "ERR unknown command")), f"{name}: {rule}: {answer[:60]}")
        check(ask("health", "x", "PING") == "PONG", "the health check's user is not let in")
        check(ask("health", "x", "GET", "dagline:{x}:k").startswith("NOPERM"), "the health check's user reads keys")
        return None
    finally:
        server.terminate()
        server.wait()
        log.close()


def check_image(compose):
    text = open("docker/Dockerfile", encoding="utf-8").read()
    stages = re.findall(r"^FROM \S+ AS (\w+)$", text, re.M)
    check(set(stages) == {"build", "test", "base", "redis", "services"}, f"Dockerfile: stages are {stages}")
    check(set(re.findall(r"^USER (.+)$", text, re.M)) == {f"{USER}:{USER}"}, "Dockerfile: USER is not the number")
    last = {part.split(" AS ")[1].split("\n")[0]: part for part in text.split("\nFROM ")[1:]}
    for stage in ("redis", "services"):
        check(f"USER {USER}:{USER}" in last.get(stage, ""), f"Dockerfile: stage {stage} runs as root")
        check("org.opencontainers.image.title" in last.get(stage, ""), f"Dockerfile: stage {stage} has no title")
    for name, volume in STATEFUL.items():
        target = next(t for t, (_, v) in sources_of(compose["services"][name]).items() if v == volume)
        check(re.search(rf"install -d -o {USER} -g {USER} .*{re.escape(target)}\b", text),
              f"Dockerfile: {target} of the volume {volume} is not made for the user")
    ignored = [line.strip() for line in open(".dockerignore", encoding="utf-8") if line.strip()[:1] not in ("", "#")]
    check(ignored[:1] == ["*"] and ignored[-1:] == ["docker/secrets"], ".dockerignore lets secrets into the build")
    for words in re.findall(r"^COPY (?!--from)(.+)$", text, re.M):
        for source in words.split()[:-1]:
            check(os.path.exists(source) or source == "models" and not model_is_here(),
                  f"Dockerfile: COPY {source}: not here")
            check(any(fnmatch.fnmatch(source.split("/")[0], i[1:]) for i in ignored if i.startswith("!")),
                  f".dockerignore keeps {source} from the build")
    for argument in compose["services"]["store"]["build"]["args"]:
        check(re.search(rf"^ARG {argument}=", text, re.M), f"Dockerfile: no ARG {argument}")
    for name in re.findall(r"docker/packages install ([a-z ]+?)(?: &&|$)", text, re.M):
        r = run(["docker/packages", "list", *name.split()])
        check(r.returncode == 0, f"Dockerfile: docker/packages has no set {name}")
    for verb in ("list", "ready", "install"):
        check(run(["docker/packages", verb, "build", "none"]).returncode == 2, f"docker/packages {verb}: takes a set that is none")


def check_libraries():
    """Every library that a binary asks for is in docker/packages' runtime set, and nothing else is."""
    if not shutil.which("dpkg-query"):
        return
    listed = set(run(["docker/packages", "list", "runtime"]).stdout.split()) - {"ca-certificates", "fonts-dejavu-core"}
    needed = set()
    for name in {b for b, _, _ in SERVICES.values()} | {"dagline"}:
        if os.access(os.path.join(BIN, name), os.X_OK):
            needed |= set(re.findall(r"NEEDED\s+(\S+)", run(["objdump", "-p", os.path.join(BIN, name)]).stdout))
    where = dict(re.findall(r"^\s+(\S+) \(libc6,(?:x86-64|AArch64).*\) => (\S+)$", run(["/sbin/ldconfig", "-p"]).stdout, re.M))
    paths = {os.path.realpath(where.get(library, library)): library for library in
             needed - {"libc.so.6", "libm.so.6", "libgcc_s.so.1"}
             if not re.match(r"lib\w*san\.|ld-linux", library)}
    # A package names its file in /usr/lib or in /lib, whichever it was built for.
    asked = run(["dpkg-query", "-S", *paths, *(p[4:] for p in paths if p.startswith("/usr/"))]).stdout
    packages = set()
    for path, library in paths.items():
        owner = re.search(rf"^([^:\s]+):.* (/usr)?{re.escape(path.removeprefix('/usr'))}$", asked, re.M)
        # this machine's choice among the builds of OpenBLAS is its own; an image has the one that is listed
        package = re.sub("^libopenblas0-.*", "libopenblas0-openmp", owner.group(1)) if owner else "nothing"
        packages.add(package)
        check(package in listed, f"docker/packages: runtime lacks {package}, which has {library}")
    check(not (listed - packages), f"docker/packages: runtime has what no binary loads: {sorted(listed - packages)}")


def check_run_settings():
    """docker/run.yaml trains the embedded model as `dagline run` does."""
    deployed = read_yaml("docker/run.yaml", {})
    for section, values in read_yaml("models/shapes/run.yaml", {}).items():
        for name, value in values.items():
            there = (deployed.get(section) or {}).get(name)
            check(there == value, f"docker/run.yaml: {section}.{name} is {there}, in models/shapes/run.yaml {value}")


def check_docs(compose):
    """Every `docker compose` line of the docs names services and files that are there."""
    text = open("docs/deploy.md", encoding="utf-8").read()
    for name in re.findall(r"--scale (\w+)=", text) + re.findall(r"docker compose exec (\w+)", text):
        check(name in compose["services"], f"docs/deploy.md: no service {name}")
    for name in re.findall(r"`(docker/[\w.-]+|compose\.yaml)`", text):
        check(os.path.exists(name) or name == "docker/secrets", f"docs/deploy.md: no {name}")


def main():
    compose = read_yaml("compose.yaml", {})
    check(compose.get("name") == "dagline" and "version" not in compose, "compose.yaml: name, or an old `version`")
    check(set(compose["services"]) == set(SECRETS), f"compose.yaml: services are {sorted(compose['services'])}")
    check(set(compose["networks"]) == {"pipeline", "rewards"}, "compose.yaml: networks are not pipeline and rewards")
    check((compose["networks"].get("pipeline") or {}).get("internal") is True, "networks.pipeline is not internal")
    check(set(compose["volumes"]) == set(STATEFUL.values()), "compose.yaml: volumes")
    for name, c in compose["configs"].items():
        check(os.path.exists(c["file"]), f"configs.{name}: no {c['file']}")
    if PROBLEMS:
        return
    if not model_is_here():
        print("lint/compose: skip: models/shapes is not in this checkout")
    for name, s in compose["services"].items():
        check_one(name, s, compose)
    settings = {name: check_service(name, compose["services"][name]) for name in SERVICES}
    conf = check_conf(compose)
    users = check_acl()
    check_ring(settings, compose)
    check_replay(settings, conf, compose)
    check_reward(settings, compose)
    check_sampler(settings, compose)
    check_large_models(compose)
    check_threads(compose)
    check_tool(compose["services"]["dagline"])
    check_own_reward(compose)
    check_several_hosts(compose, settings)
    check_image(compose)
    check_libraries()
    check_docs(compose)
    if model_is_here():
        check_run_settings()
    check_interrupted_setup()
    folder = check_secrets(compose)
    if folder is None:
        return
    if shutil.which("redis-server") and shutil.which("redis-cli"):
        redis_checks(folder, users, compose)
    else:
        print("lint/compose: skip: redis-server is not installed")


main()
for problem in PROBLEMS:
    print(f"lint/compose: {problem}")
if not PROBLEMS:
    print(f"lint/compose: {CHECKS} checks, compose.yaml and docker/ agree with the binaries")
sys.exit(1 if PROBLEMS else 0)
