// Response flags: why the proxy answered, in words.

const WORDS = {
  DC: "the client left",
  DF: "a name could not be resolved",
  DI: "a delay was injected",
  DPE: "the client broke the protocol",
  FI: "an error was injected",
  NC: "no such destination",
  NR: "no route",
  OM: "overloaded",
  RL: "rate limited",
  RLSE: "the rate limit service failed",
  SI: "silent for too long",
  UAEX: "denied by an authorizer",
  UC: "the endpoint closed the connection",
  UF: "the connection to the endpoint failed",
  UH: "no healthy endpoint",
  UO: "a limit of the destination is reached",
  UPE: "the endpoint broke the protocol",
  UR: "the endpoint reset the request",
  URX: "retries used up",
  UT: "the endpoint took too long",
};

export const flagWords = (flag) => (WORDS[flag] ? `${flag}: ${WORDS[flag]}` : flag);
