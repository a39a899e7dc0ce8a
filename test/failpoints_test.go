package test_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/idemproxy/idemproxy/internal/dbtest"
	"github.com/idemproxy/idemproxy/rstore/redistest"
)

// TestFailpoints walks the points of internal/failpoint. At each of them a proxy is held
// up, fails or dies, while clients and operators go on, on each store that has the point.
// Then the histories of the clients must have an order that the protocol allows: see
// TestClientHistories. A point that no run came to fails the test, where FAILPOINTS is set.
//
// FAILPOINTS=all plays every act at every point, on every store and under both policies;
// without it, all points are held up and fail in common, and a few are died at.
// FAILPOINTS=name plays all acts at one point, and FAILPOINTS=100 a hundred runs of those
// that all has. SEED repeats what was random.
func TestFailpoints(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it builds a proxy of its own")
	}
	c := newFailCampaign(t)
	cases := c.plan(os.Getenv("FAILPOINTS"))
	next := make(chan failCase)
	var work sync.WaitGroup
	for range 4 { // most of the time they wait for a lease to lapse
		work.Go(func() {
			for one := range next {
				t.Run(one.name(), func(t *testing.T) { c.play(t, one) })
			}
		})
	}
	for _, one := range cases {
		next <- one
	}
	close(next)
	work.Wait()
	c.check(t)
}

// failPoint is a point in the source.
type failPoint struct {
	name  string
	kinds []string // stores that have it
	fails bool     // an error can be returned there
}

// receiptPoints are the points that only a proxy whose backend keeps receipts comes to.
var receiptPoints = []string{"receipt-asked", "receipt-answered", "doubt-read", "list-half"}

// rare says of points that a run comes to seldom: they act at the first time.
var rare = []string{
	"take-asked", "take-answered", "resolve-asked", "resolve-answered", "purge-asked", "purge-answered", "plan-entered",
	"rules-made", "leader-leaves", "listen-flush", "sweep-asked", "sweep-half", "backlog-answered", "doubt-read",
	"hold-asked", "hold-answered", "renew-asked", "renew-answered",
}

// operators are the points that only operators come to, or that they make interesting.
var operators = []string{
	"take-asked", "take-answered", "resolve-asked", "resolve-answered", "purge-asked", "purge-answered",
	"ticket-held", // between which and the cache an operator purges
}

// again are the points that are come to again at once when they fail: so they fail more
// than once, too.
var again = []string{
	"acquire-asked", "acquire-answered", "renew-asked", "renew-answered", "complete-asked", "complete-answered",
	"release-asked", "release-answered", "hold-asked", "hold-answered", "receipt-asked", "receipt-answered",
}

// lapsing are the points where a request is held up for longer than its lease.
var lapsing = []string{
	"acquire-answered", "lease-unguarded", "confirmed", "renew-asked", "renew-answered", "backend-answered",
	"complete-asked", "complete-answered",
}

// arm is what is to happen at a point.
type arm struct {
	point, act string
	count      int
}

func (a arm) String() string { return fmt.Sprintf("%s=%s@%d", a.point, a.act, a.count) }

// failCase is one run.
type failCase struct {
	kind, policy string
	about        string
	arms         []arm
}

func (c failCase) name() string { return c.kind + "/" + c.policy + "/" + c.about }

// failCampaign is what all runs share.
type failCampaign struct {
	binary   string
	points   map[string]failPoint
	redis    *redistest.Server
	postgres *dbtest.Postgres
	seed     uint64
	whole    bool // more than the short walk was asked for

	mu      sync.Mutex
	reached map[string]map[string]bool // guarded by mu; point, store
	acted   map[string]int             // guarded by mu; point and act
	played  []failCase                 // guarded by mu
}

func newFailCampaign(t *testing.T) *failCampaign {
	t.Helper()
	c := &failCampaign{
		binary: os.Getenv("FAILPOINTS_BINARY"), points: pointsOf(t), seed: endSeed(), whole: os.Getenv("FAILPOINTS") != "",
		reached: map[string]map[string]bool{}, acted: map[string]int{},
		redis: redistest.Start(t), postgres: dbtest.StartPostgres(t),
	}
	if c.binary != "" {
		return c
	}
	c.binary = filepath.Join(t.TempDir(), "idemproxy")
	build := exec.CommandContext(t.Context(), "go", "build", "-race", "-tags", "failpoints,storelog", "-o", c.binary, "../cmd/proxy")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the proxy with failpoints: %v\n%s", err, out)
	}
	return c
}

// allStores are the kinds of stores.
var allStores = []string{"embedded", "redis", "postgres"}

// storesOf says which stores' processes come by a folder.
func storesOf(folder string) []string {
	switch folder {
	case "estore":
		return allStores[:1]
	case "rstore":
		return allStores[1:2]
	case "pstore":
		return allStores[2:]
	case "internal/replays":
		return allStores[1:]
	}
	return allStores
}

// pointsOf collects the points from the source, so that none is forgotten here.
func pointsOf(t *testing.T) map[string]failPoint {
	t.Helper()
	all := map[string]failPoint{}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." {
			return errorsOrSkip(err)
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		folder, _ := filepath.Rel("..", filepath.Dir(path))
		for name, fails := range pointsIn(t, path) {
			if _, twice := all[name]; twice {
				t.Errorf("%s: there is another point %s", path, name)
			}
			all[name] = failPoint{name: name, fails: fails, kinds: storesOf(folder)}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Errorf("there are only %d points", len(all))
	}
	return all
}

func errorsOrSkip(err error) error {
	if err != nil {
		return err
	}
	return filepath.SkipDir
}

// pointsIn are the points of a file, and whether they can fail.
func pointsIn(t *testing.T, path string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "failpoint.") {
		return nil
	}
	file, err := parser.ParseFile(token.NewFileSet(), path, text, 0)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) != 1 {
			return true
		}
		f, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || fmt.Sprint(f.X) != "failpoint" {
			return true
		}
		literal, ok := call.Args[0].(*ast.BasicLit)
		if !ok {
			t.Errorf("%s: a point whose name is no literal", path)
			return true
		}
		name, err := strconv.Unquote(literal.Value)
		if err != nil {
			t.Error(err)
		}
		if _, twice := all[name]; twice {
			t.Errorf("%s: the point %s is there twice", path, name)
		}
		all[name] = f.Sel.Name == "Fail"
		return true
	})
	return all
}

// actsAt are the acts that are played at a point.
func (c *failCampaign) actsAt(p failPoint) []string {
	acts := []string{"end", "pause:300ms"}
	if p.fails {
		acts = append(acts, "fail")
		if slices.Contains(again, p.name) {
			acts = append(acts, "fail:8")
		}
	}
	if slices.Contains(lapsing, p.name) {
		acts = append(acts, "pause:"+(endLease+time.Second).String())
	}
	return acts
}

// policiesAt are those under which a point is played.
func policiesAt(point, act string) []string {
	switch {
	case slices.Contains(receiptPoints, point):
		return []string{"settle"}
	case act == "pause:"+(endLease+time.Second).String(), strings.HasPrefix(point, "hold-"), strings.HasPrefix(point, "resolve-"):
		return []string{"hold"} // with release, another request may execute after a lapse
	}
	return []string{"hold", "release"}
}

// armsOf are a point's, and what is needed to come there.
func armsOf(point, act string, rng *rand.Rand) []arm {
	count := 1 + rng.IntN(4)
	if slices.Contains(rare, point) || strings.HasPrefix(point, "release-") { // under hold, what releases is rare
		count = 1
	}
	arms := []arm{{point, act, count}}
	if point == "doubt-read" { // where only what the backend did not answer at once comes by
		arms = append(arms, arm{"receipt-asked", "fail:20", 1})
	}
	if point == "backlog-answered" { // where only what the store did not take comes by
		arms = append(arms, arm{"complete-asked", "fail", 1}, arm{"complete-answered", "fail", 2})
	}
	return arms
}

// plan is what is played: FAILPOINTS.
func (c *failCampaign) plan(want string) (cases []failCase) {
	rng := rand.New(rand.NewPCG(c.seed, 11))
	n, _ := strconv.Atoi(want) // 0: it is no number
	var whole []failCase
	for _, name := range slices.Sorted(maps.Keys(c.points)) {
		if n == 0 && want != "" && want != "all" && want != name {
			continue
		}
		p := c.points[name]
		for _, kind := range p.kinds {
			for _, act := range c.actsAt(p) {
				for _, policy := range policiesAt(name, act) {
					whole = append(whole, failCase{kind: kind, policy: policy, about: name + "=" + act, arms: armsOf(name, act, rng)})
				}
			}
		}
	}
	rng.Shuffle(len(whole), func(i, j int) { whole[i], whole[j] = whole[j], whole[i] })
	if n > 0 {
		return whole[:min(n, len(whole))]
	}
	if want != "" {
		return whole
	}
	for _, kind := range allStores {
		cases = append(cases, c.together(kind, "hold", "pause:300ms", rng), c.together(kind, "hold", "fail", rng))
		cases = append(cases, c.together(kind, "settle", "pause:300ms", rng), c.together(kind, "settle", "fail", rng))
	}
	for _, one := range whole {
		if one.arms[0].act == "end" && len(cases) < 20 {
			cases = append(cases, one)
		}
	}
	return cases
}

// together has one act played at all points of a store in one run.
func (c *failCampaign) together(kind, policy, act string, rng *rand.Rand) failCase {
	one := failCase{kind: kind, policy: policy, about: "all=" + act}
	for _, name := range slices.Sorted(maps.Keys(c.points)) {
		p := c.points[name]
		switch {
		case !slices.Contains(p.kinds, kind), act == "fail" && !p.fails, name == "log-append" && act == "fail": // that ends the process
		case slices.Contains(receiptPoints, name) != (policy == "settle"):
		default:
			one.arms = append(one.arms, armsOf(name, act, rng)[0])
		}
	}
	return one
}

// note takes up what a run's processes wrote into their log.
func (c *failCampaign) note(one failCase, lines []failLine) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.played = append(c.played, one)
	for _, line := range lines {
		if line.act != "" {
			c.acted[line.point+"="+line.act]++
			continue
		}
		if c.reached[line.point] == nil {
			c.reached[line.point] = map[string]bool{}
		}
		c.reached[line.point][one.kind] = true
	}
}

// check fails the test if a point was not reached on a store that has it, or if what was
// planned there did not happen.
func (c *failCampaign) check(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	acts := 0
	for _, n := range c.acted {
		acts += n
	}
	t.Logf("figure: %d points, %d runs, %d acts, seed %d", len(c.points), len(c.played), acts, c.seed)
	kinds := map[string][]string{} // of which stores there were runs that can come to a point
	for _, one := range c.played {
		for _, a := range one.arms {
			if !slices.Contains(kinds[a.point], one.kind) {
				kinds[a.point] = append(kinds[a.point], one.kind)
			}
		}
	}
	for point, all := range kinds {
		for _, kind := range all {
			if !c.reached[point][kind] {
				c.missed(t, fmt.Sprintf("no run on %s came to %s", kind, point))
			}
		}
	}
}

// missed says that something did not come about. The short walk is a sample, and clients
// are random: there it is told, and fails the test where the walk is to be complete.
func (c *failCampaign) missed(t *testing.T, what string) {
	t.Helper()
	if c.whole {
		t.Error(what)
		return
	}
	t.Log(what)
}

// failLine is a line of a process's log: it came to a point, or acted there.
type failLine struct {
	point, act string // act empty: it only came there
	at         time.Time
}

func readFailLog(t *testing.T, file string) (all []failLine) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Error(err) // every process comes to some point
	}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		switch {
		case len(words) == 2 && words[0] == "reached":
			all = append(all, failLine{point: words[1]})
		case len(words) == 4 && words[0] == "acts":
			ns, err := strconv.ParseInt(words[3], 10, 64)
			if err != nil {
				t.Error(err)
			}
			act, _, _ := strings.Cut(words[2], "@")
			all = append(all, failLine{words[1], act, time.Unix(0, ns)})
		default:
			t.Errorf("the log of failpoints has %q", line)
		}
	}
	return all
}
