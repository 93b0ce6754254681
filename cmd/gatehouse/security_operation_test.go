package main

// Cases that need another bed than raw sockets: a Redis that can be hung, a
// clock, files that change. They are tests of their own, named here.

func heldBy(number int, name string, tests ...string) hostile {
	return hostile{number: number, name: name, held: tests}
}

func revocationCases(*hostileBed) []hostile {
	return []hostile{
		heldBy(169, "a token that was revoked at one gateway, at another", "cmd/gatehouse.TestEndToEnd", "authn/redisstore.TestGatewaysShare"),
		heldBy(170, "Redis hangs", "authn/redisstore.TestHung"),
		heldBy(172, "packets are dropped, connections half open", "authn/redisstore.TestNetwork"),
		heldBy(173, "Redis is slow", "authn/redisstore.TestNetwork", "authn/redisstore.TestStrict"),
		heldBy(175, "Redis answers rubbish", "authn/redisstore.TestNetwork"),
		heldBy(176, "replies out of order", "authn/redisstore.TestNetwork"),
		heldBy(178, "Redis comes back empty, rolled back, or after FLUSHALL", "authn/redisstore.TestLosses"),
		heldBy(179, "a failover to a replica that lags", "authn/redisstore.TestSentinelFailover"),
		heldBy(181, "an eviction policy that could drop revocations", "authn/redisstore.TestWarnings"),
		heldBy(182, "revocations that end before their token", "authn.TestRevocationOutlivesEveryToken", "authn.TestRaisedLeeway"),
		heldBy(184, "a revoked token in another encoding", "authn.TestSecondSignatureIsTheSameToken", "authn.TestVerifyForm"),
		heldBy(185, "tokens without a `jti`, with another's, of another issuer", "authn.TestLogoutOfTrustedIssuer", "authn/endpoints.TestRevokeAccessToken"),
		heldBy(187, "a logout while 1,000 requests are in flight", "cmd/gatehouse.TestHistory", "proxy.TestHundredsEndAtOnce"),
		heldBy(188, "how long a revoked token is taken", "authn/redisstore.TestGap", "authn.TestFollow"),
		heldBy(190, "a refresh after, and during, a logout", "authn.TestSignOutOverlaps", "authn.TestLogout"),
		heldBy(191, "a password is changed, a user disabled or deleted", "authn.TestChangePassword", "authn.TestOperatorChanges", "authn.TestSetRolesOverlapsRefresh"),
		heldBy(193, "the gateway starts before Redis", "authn/redisstore.TestStartWithoutRedis"),
		heldBy(194, "the first request after the start", "authn.TestCheckBeforeLoad", "cmd/gatehouse.TestReadinessWithoutRevocations"),
	}
}

func operationCases(*hostileBed) []hostile {
	return []hostile{
		heldBy(208, "routes that overlap, shadow each other, or cannot match", "proxy.TestConflictsQuoteBothRoutes", "proxy.TestUnreachableRoutes", "config.TestBad"),
		heldBy(209, "secrets: unset, empty, short, known, with a final line end, shown", "config.TestSecretFiles", "config.TestWeakness", "config.TestLoadVariables", "config.TestProblemsKeepToTheFile"),
		heldBy(211, "keys and users that cannot be read", "authn.TestIssuerProblems", "authn.TestJWKSFile", "config.TestLoadUnreadable"),
		heldBy(212, "reloads of broken, half-written and missing files, under load", "cmd/gatehouse.TestReloadUnderLoad", "cmd/gatehouse.TestReloadsLeaveNothingBehind", "config.TestWatchOddFiles"),
		heldBy(214, "a panic in a handler, an answer that is broken off", "proxy.TestEndingRequestsIsNoAnswer", "proxy.TestShortBodyIsNoCompleteAnswer"),
	}
}
