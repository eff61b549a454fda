package constructs

import "runtime"

// show
func useAll(pumps []func()) int {
	for _, pump := range pumps {
		go pump() // on any core
	}
	return runtime.GOMAXPROCS(0)
}
