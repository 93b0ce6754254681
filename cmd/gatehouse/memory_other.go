//go:build !linux

package main

// unmapStart is for Linux.
func unmapStart() {}
