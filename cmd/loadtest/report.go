package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// markdown is the table of a run.
func markdown(results []*result, o options, machine string, at time.Time) string {
	var s strings.Builder
	fmt.Fprintf(&s, "%s, %s. %d connections, answers of %d bytes, %d rounds of %s each, medians.\n\n",
		at.Format("2006-01-02"), machine, o.connections, usualBody, o.rounds, o.duration)
	idle := ""
	if o.idle > 0 {
		idle = " per idle connection |"
	}
	fmt.Fprintf(&s, "| | CPU per request | beside bare | requests/s | p50 | p99 | start | memory idle | loaded |%s\n", idle)
	fmt.Fprintf(&s, "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |%s\n", strings.Repeat(" ---: |", len(idle)/len(" per idle connection |")))
	for _, r := range results {
		each := ""
		if o.idle > 0 {
			each = fmt.Sprintf(" %.1f KiB |", float64(r.each)/1024)
		}
		fmt.Fprintf(&s, "| %s | %.0f µs | %.2f | %s | %s | %s | %d ms | %.0f MB | %.0f MB |%s\n",
			r.name, r.median.cpu, r.median.ratio, thousands(int(r.median.rate)), short(r.median.p50), short(r.median.p99),
			r.started.Milliseconds(), float64(r.idle)/1e6, float64(r.loaded)/1e6, each)
	}
	return s.String()
}

// short is a duration as people read it in a table.
func short(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1e3)
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}

// figuresFile is where the figures are kept that later runs are compared with.
const figuresFile = "cmd/loadtest/figures.json"

// figures are ratios: those alone can be compared between runs.
type figures struct {
	Date    string             `json:"date"`
	Machine string             `json:"machine"`
	Ratios  map[string]float64 `json:"ratios"` // CPU per request beside the bare proxy's
}

func saveFigures(file string, results []*result, machine string, at time.Time) error {
	f := figures{Date: at.Format("2006-01-02"), Machine: machine, Ratios: map[string]float64{}}
	for _, r := range results {
		if r.name != bareName {
			f.Ratios[r.name] = float64(int(r.median.ratio*1000+0.5)) / 1000
		}
	}
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

const (
	// A ratio moves by so much from one run to another without a cause.
	tolerance = 0.15
	// One of Gatehouse's that is worse by so much is an error: something was
	// broken.
	farOff = 0.5
)

// compareFigures prints the ratios beside those in file.
func compareFigures(w io.Writer, file string, results []*result) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var f figures
	if err := json.Unmarshal(data, &f); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	fmt.Fprintf(w, "\nCPU per request beside the bare proxy, %s on %s → now (within %.0f %% is noise)\n\n", f.Date, f.Machine, tolerance*100)
	var broken []string
	for _, r := range results {
		before, known := f.Ratios[r.name]
		if !known || before <= 0 {
			continue
		}
		change := r.median.ratio/before - 1
		verdict := "as before"
		switch {
		case change > tolerance:
			verdict = "WORSE"
		case change < -tolerance:
			verdict = "better"
		}
		fmt.Fprintf(w, "%-55s %.2f → %.2f  %+3.0f %%  %s\n", r.name, before, r.median.ratio, change*100, verdict)
		if change > farOff && strings.HasPrefix(r.name, "Gatehouse") {
			broken = append(broken, fmt.Sprintf("%s: %.2f of the bare proxy, was %.2f", r.name, r.median.ratio, before))
		}
	}
	if len(broken) > 0 {
		return fmt.Errorf("far worse than %s: %s", figuresFile, strings.Join(broken, "; "))
	}
	return nil
}
