package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

const healthcheckTimeout = 2 * time.Second

func (a *app) healthcheckCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask the running gateway whether it is ready",
		Long: `Ask the running gateway's /readyz on admin.listen, for at most two seconds.
Exit code 0 if it is ready, else 1 and the reason. For a container's HEALTHCHECK.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.healthcheck(cmd.Context()) },
	}
}

func (a *app) healthcheck(ctx context.Context) error {
	// A configuration that was broken after the start says nothing about the
	// gateway, which goes on with what it had: ask where it most likely is.
	address := "127.0.0.1:9901"
	cfg, loadErr := a.load()
	if loadErr == nil {
		address = cfg.Admin.Listen
	}
	if address == "" {
		return cfg.Problem("admin.listen", "admin.listen is off, so there is nobody to ask")
	}
	ctx, cancel := context.WithTimeout(ctx, healthcheckTimeout)
	defer cancel()
	ready, err := askReadiness(ctx, "http://"+reachable(address)+"/readyz")
	switch {
	case err != nil && loadErr != nil:
		return errors.Join(loadErr, err)
	case err != nil:
		return err
	case ready.Status != "ready":
		return errors.New(ready.why())
	}
	fmt.Fprintln(a.stdout, "ready")
	return nil
}

func askReadiness(ctx context.Context, url string) (readiness, error) {
	var ready readiness
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return ready, fmt.Errorf("ask %s: %w", url, err)
	}
	// Neither a proxy of the environment nor a redirect has a say in this.
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	res, err := client.Do(req)
	if errors.Is(err, context.DeadlineExceeded) {
		return ready, fmt.Errorf("ask %s: no answer within %v", url, healthcheckTimeout)
	}
	if err != nil {
		return ready, fmt.Errorf("is the gateway running? %w", err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&ready); err != nil || ready.Status == "" {
		return ready, fmt.Errorf("ask %s: %s, and not from a gateway", url, res.Status)
	}
	return ready, nil
}

// why says in one line what is not ready.
func (r readiness) why() string {
	why := "gateway is " + r.Status
	if r.Database.Error != "" {
		why += "; database: " + r.Database.Error
	}
	if r.Revocation.Error != "" {
		why += "; revocation: " + r.Revocation.Error
	}
	return why
}
