// pm2 start ecosystem.config.js
//
// One validator and one miner; with MINER_HOTKEYS=m1,m2 one miner for each of these hotkeys. Settings come from the
// environment or a .env file beside this one; the flag --subtensor.chain_endpoint is the variable
// SUBTENSOR_CHAIN_ENDPOINT, and so on. Defaults suit `iota chain`.
const env = (name, fallback) => process.env[name] || fallback;
const python = env("IOTA_PYTHON", `${__dirname}/.venv/bin/python`);

const common = [
  "--netuid", env("NETUID", "1"),
  "--wallet.path", env("WALLET_PATH", "~/.bittensor/wallets"),
  "--subtensor.chain_endpoint", env("SUBTENSOR_CHAIN_ENDPOINT", "ws://127.0.0.1:9944"),
  "--axon.ip", env("AXON_IP", "127.0.0.1"),
  ...(process.env.AXON_EXTERNAL_IP ? ["--axon.external_ip", process.env.AXON_EXTERNAL_IP] : []),
];

const neuron = (name, script, args) => ({
  name,
  script: `${__dirname}/neurons/${script}.py`,
  interpreter: python,
  args: [...common, ...args].join(" "),
  cwd: __dirname,
  autorestart: true,
  // Exit code 2 means a setting that only the operator can put right: restarting would say the same again.
  stop_exit_codes: [2],
  exp_backoff_restart_delay: 1000,
  // SIGINT ends a neuron after its present step. A miner first finishes its epoch, if it is told so (--work.finish_s),
  // and what others wait for (--work.drain_s, 30 s).
  kill_timeout: 1000 * (10 + Number(env("WORK_DRAIN_S", "30")) + Number(env("WORK_FINISH_S", "0"))),
});

// Miners beside each other: iota-miner, or iota-miner-NAME for each hotkey; ports count up by ten.
const hotkeys = env("MINER_HOTKEYS", env("MINER_HOTKEY", "default")).split(",");
const miners = hotkeys.map((hotkey, number) => neuron(hotkeys.length > 1 ? `iota-miner-${hotkey}` : "iota-miner", "miner", [
  "--wallet.name", env("MINER_WALLET", "miner"),
  "--wallet.hotkey", hotkey,
  "--axon.port", String(Number(env("MINER_PORT", "8091")) + 10 * number),
  ...(process.env.MINER_BLOBS_PORT ? ["--blobs.port", String(Number(process.env.MINER_BLOBS_PORT) + 10 * number)] : []),
]));

module.exports = {
  apps: [
    neuron("iota-validator", "validator", [
      "--wallet.name", env("VALIDATOR_WALLET", "validator"),
      "--wallet.hotkey", env("VALIDATOR_HOTKEY", "default"),
      "--axon.port", env("VALIDATOR_PORT", "8090"),
      // The dashboard, the work channels of the miners, and what the validator relays.
      "--blobs.port", env("VALIDATOR_BLOBS_PORT", "8093"),
      "--run.dir", env("RUN_DIR", "runs/validator"),
      "--run.stages", env("RUN_STAGES", "1"),
    ]),
    ...miners,
  ],
};
