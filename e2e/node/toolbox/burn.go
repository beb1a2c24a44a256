package main

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"time"
)

// Of each period a worker computes for its share, and sleeps for the rest: a plateau, as miners have.
const burnPeriod = 50 * time.Millisecond

func burn(ctx context.Context, arguments []string) error {
	flags := flag.NewFlagSet("burn", flag.ExitOnError)
	share := flags.Float64("share", 0.5, "share of each worker's processor, 0 to 1")
	workers := flags.Int("workers", 1, "number of workers")
	_ = flags.Parse(arguments)
	if *share < 0 || *share > 1 || *workers < 1 {
		return fmt.Errorf("wanted a share from 0 to 1 and at least one worker, got %v and %d", *share, *workers)
	}
	busy := time.Duration(float64(burnPeriod) * *share)
	var all sync.WaitGroup
	for range *workers {
		all.Go(func() { burnUntil(ctx, busy) })
	}
	all.Wait()
	return nil
}

func burnUntil(ctx context.Context, busy time.Duration) {
	ticker := time.NewTicker(burnPeriod)
	defer ticker.Stop()
	for ctx.Err() == nil {
		end := time.Now().Add(busy)
		for time.Now().Before(end) {
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
		}
	}
}
