//go:build race

package redisstore

// underRace: the race detector makes everything several times slower.
const underRace = true
