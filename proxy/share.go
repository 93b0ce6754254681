package proxy

// Share reports whether a client that has mine of most places may have another one
// when all are taken: as many as are left for others. So there is always a place
// for somebody who has none, though everybody who takes what he can get leaves half
// of what there was: nine of them leave one of 512.
func Share(mine, all, most int) bool { return mine < most-all }
