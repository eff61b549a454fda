package constructs

import "sync"

// show
func count(n int) (total int) {
	mu, wg := sync.Mutex{}, sync.WaitGroup{}
	for range n {
		wg.Go(func() { // these run at the same time
			mu.Lock()
			total++
			mu.Unlock()
		})
	}
	wg.Wait()
	return total
}
